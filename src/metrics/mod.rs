//! How numbers are kept and written down: histograms that cost those who fill them two additions,
//! and Prometheus' text format. Used by the actors and by HTTP, of which it knows nothing.
//!
//! Not a library: `prometheus-client` takes a lock for each observation, and writes a text in which
//! this format's readers do not find a counter's help. What is left to write is in two small files.

mod histogram;
mod text;

pub use histogram::{Reading, SizeHistogram, TimeHistogram};
pub use text::{Family, Page};
