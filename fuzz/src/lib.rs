//! The parts of the service that read foreign bytes, and what must hold of them. The sources are the
//! service's own, without its databases and its server.

#[path = "../../src/domain/mod.rs"]
pub mod domain;
#[path = "../../src/wire/mod.rs"]
pub mod wire;

pub mod claims;
