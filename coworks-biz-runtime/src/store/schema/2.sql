ALTER TABLE task_instance ADD COLUMN outcome INTEGER;  -- of its success: the arm of a branch, the number of items of a list
