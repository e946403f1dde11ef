//! The service as its users meet it: the real binary, on real databases, over HTTP. Each module
//! makes claims of one part of the contract; `support` starts what they need. Nothing here calls
//! the library but `conformance`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and shows why on stderr"
)]

#[macro_use]
mod support;

mod access;
mod architecture;
mod compose;
mod conformance;
mod crashes;
mod dashboard;
mod disk;
mod errors;
mod expand;
mod faults;
mod foreign;
mod formats;
mod kubernetes;
mod logs;
mod metrics;
mod migrations;
mod model;
mod odd;
mod outages;
mod overload;
mod pages;
mod process;
mod publisher;
mod queued;
mod rates;
mod reading;
mod reference;
mod replicas;
mod retention;
mod stream;
mod tail;
mod tls;
mod unread;
