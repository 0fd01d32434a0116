//! How CoWorks services are called and what they answer, row by row.
//!
//! | The request | Test |
//! |---|---|
//! | URL: gateway, stage and entry; the default region; one slash | [`request::each_request_is_this_and_nothing_else`], [`network::a_proxy_is_used_where_the_environment_names_one`] (the address of API Gateway) |
//! | every call: `Accept`, `Content-Type` also on GET, trace id, the bare token unless `no_auth` | [`request::each_request_is_this_and_nothing_else`] |
//! | the trace id is the start and the number of the run, the same for all its tasks | [`request::the_trace_is_the_run`] |
//! | headers of the user win, but for `Authorization`, and for where an answer goes | [`request::each_request_is_this_and_nothing_else`] |
//! | an asynchronous call: `InvocationType`, `X-CWS-S3Bucket`, `X-CWS-S3Key` | [`request::each_request_is_this_and_nothing_else`] |
//! | query: lists repeat their key, null is dropped, a space is `+` | [`request::each_request_is_this_and_nothing_else`] |
//! | JSON bodies in UTF-8 | [`request::each_request_is_this_and_nothing_else`] |
//! | `Idempotency-Key`; `traceparent` when tracing is on | [`request::the_trace_is_the_run`] |
//! | a request has a timeout | [`network::who_is_not_there_or_not_in_time_is_told_with_the_reason`] |
//!
//! | The answers of a gateway | Test |
//! |---|---|
//! | unknown path 403, no token 401, wrong token 403, another type 415, too long 504: told with what they mean | [`answers::a_refusal_says_what_it_means_here`] |
//! | text and JSON, quoted and not; raw bytes; an empty body | [`answers::an_answer_is_what_the_output_makes_of_it`] |
//! | an `Event` call accepted with an empty body | [`results::an_object_is_what_the_output_makes_of_it`] |
//! | larger than what is taken | [`answers::what_is_too_large_is_refused_before_it_is_read`], [`results::what_is_too_large_is_refused_whether_or_not_s3_says_how_long_it_is`] |
//!
//! | The asynchronous result | Test |
//! |---|---|
//! | an envelope: text, native JSON, `""` for 204, base64; raw bytes; bytes that look like one | [`results::an_object_is_what_the_output_makes_of_it`] |
//! | errors are stored too: 400, 404, 500 | [`results::an_object_is_what_the_output_makes_of_it`] |
//! | malformed, truncated, empty, no object, wrong types, more keys | [`results::an_object_is_what_the_output_makes_of_it`] |
//! | deleted where it was an answer, kept where it was none | [`results::an_object_is_what_the_output_makes_of_it`] |
//! | a service that stores nothing | [`original::a_service_that_stores_nothing_is_asked_again_and_the_group_shares_its_tries`], `calls::a_wait_without_an_answer_asks_again_and_a_kept_answer_stays` |
//! | 20 MB and more | [`results::twenty_megabytes_are_ordinary`] |
//! | a duplicate delivery | [`original::what_is_delivered_twice_is_read_once_and_never_by_another`] |
//! | the key, and that it is deleted once read | `calls::an_asynchronous_call_names_where_its_answer_goes_which_is_deleted_once_read` |
//!
//! | Task ids and XComs | Test |
//! |---|---|
//! | a synchronous `x` and what it pushes | [`answers::an_answer_is_what_the_output_makes_of_it`] |
//! | `x.call`, `x.wait`, `x.read` and what they push | [`results::the_members_of_a_call_push_what_coworks_pushes`] |
//! | `x.transformer`: the query of a GET, the JSON of others | `arguments::a_transformer_makes_the_query_of_a_get_and_the_json_of_others` |
//! | `return_value`: JSON; the text where it is none; `{}` or `""` for an empty body | [`answers::an_answer_is_what_the_output_makes_of_it`], [`results::an_object_is_what_the_output_makes_of_it`] |
//!
//! | The directory | Test |
//! |---|---|
//! | `GET {directory}/{name}?stage=`, authorized, without `Content-Type` and trace id; the answer, kept | [`directory::a_lookup_is_this_and_nothing_else`] |
//! | the token may be null | [`directory::a_service_may_have_no_token`] |
//! | unknown: 404 and 500; refused; nonsense | [`directory::what_the_directory_does_not_know_is_told`] |
//! | forgotten on 401 and 403 | `arguments::a_service_that_refuses_what_the_directory_said_is_looked_up_once_more` |
//!
//! | Where the original goes wrong | Test |
//! |---|---|
//! | 5xx, 408, 425, 429 and faults are tried again; other 4xx are not | [`original::what_may_pass_is_tried_again_and_what_will_not_is_not`] |
//! | a key of its own for each run | [`original::the_result_of_another_run_is_never_taken`] |
//! | an asynchronous call that is refused fails at once | [`original::a_refused_asynchronous_call_fails_with_the_status`] |
//! | no worker is held | [`original::no_worker_is_held_while_answers_are_waited_for`] |
//! | bytes, base64 decoded, malformed envelopes | [`results::an_object_is_what_the_output_makes_of_it`] |
//! | one slash | [`directory::a_lookup_is_this_and_nothing_else`], [`request::each_request_is_this_and_nothing_else`] |
//! | the quickstart runs | `quickstart` |
//! | an outage of S3 is waited out; 403 | [`original::an_outage_of_s3_is_waited_out`], [`original::an_answer_that_may_not_be_read_is_told_with_its_key_and_not_asked_for_again`] |
//! | (ours) a redirect never carries a token elsewhere | [`network::a_redirect_elsewhere_is_refused_and_one_within_followed`] |
//!
//! What is between: TLS, HTTP/2, proxies, redirects, and who is not there: [`network`]. Compile errors (`json` with `data`, a transformer with a query, an exhaustive `match`) are in `tests/ui`.

mod answers;
mod directory;
mod network;
mod original;
mod request;
mod results;
mod server;
