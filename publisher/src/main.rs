//! The oncelog publisher.

fn main() {}
