use coworks_biz::prelude::*;

#[biz(schedule = "0 6 * * 1-5-6")]
fn range() {}

#[biz(schedule = "0 5-5 * * *")]
fn every_hour() {}

#[biz(schedule = "0 6 * * 5L")]
fn last() {}

#[biz(schedule = "0 6 31W * *")]
fn nearest() {}

#[biz(schedule = "0 6 1W * 1")]
fn nearest_monday() {}

#[biz(schedule = "0 6 1-7 * mon#1")]
fn first() {}

#[biz(schedule = "0 6 * * 1#1,fri")]
fn mixed() {}

#[biz(schedule = "0 20-4/3 * * *")]
fn over_the_end() {}

#[biz(schedule = "0 6 * * monday")]
fn name() {}

#[biz(schedule = "*/90 0 6 * * * 2026")]
fn year() {}

fn main() {}
