//! Counts requests by route, method and status, and their times by route. Every request passes here
//! (`app` hands it over), so that a count is a few additions to memory that is there already.

use crate::metrics::{Page, TimeHistogram};
use actix_web::{
    Resource,
    dev::ServiceResponse,
    http::{Method, StatusCode},
};
use std::{
    cell::OnceCell,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What a method or a status is counted as that is none of those below: clients may invent methods,
/// and each must not become a series of its own.
const OTHER: &str = "other";
/// The first ones are found first.
const METHODS: [&str; 7] = ["POST", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// All that `error` and the routes answer with.
const STATUSES: [u16; 18] = [
    200, 202, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 429, 500, 503,
];
/// The route of a path that is none of ours.
const UNMATCHED: &str = "unmatched";

/// Counts the requests of this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RequestMeter(Arc<Meter>);

#[derive(Debug, Default)]
struct Meter {
    /// By the pattern of their path. Locked when a worker meets a route for the first time.
    routes: Mutex<BTreeMap<&'static str, Arc<RouteCounts>>>,
    unmatched: RouteCounts,
}

/// The requests of one route.
#[derive(Debug, Default)]
struct RouteCounts {
    by_method: [[AtomicU64; STATUSES.len() + 1]; METHODS.len() + 1],
    times: TimeHistogram,
}

/// Tells the meter which route a request has come to. Asking actix for the pattern would match the
/// path once more and make a string of it.
#[derive(Debug)]
struct RouteMark {
    pattern: &'static str,
    counts: OnceCell<Arc<RouteCounts>>,
}

/// The resource of a pattern, its requests counted under it.
pub(in crate::http) fn measured(pattern: &'static str) -> Resource {
    actix_web::web::resource(pattern).app_data(RouteMark {
        pattern,
        counts: OnceCell::new(),
    })
}

impl RequestMeter {
    /// Counts a request whose answer is about to be sent, after that long.
    pub fn add<B>(&self, response: &ServiceResponse<B>, took: Duration) {
        let request = response.request();
        let counts = match request.app_data::<RouteMark>() {
            Some(mark) => mark.counts.get_or_init(|| self.route(mark.pattern)),
            None => &self.0.unmatched,
        };
        counts.add(request.method(), response.status(), took);
    }

    /// Writes down what was counted.
    pub(super) fn write(&self, page: &mut Page) {
        let routes: Vec<(&str, Arc<RouteCounts>)> = {
            let routes = self.routes();
            let routes = routes.iter();
            routes
                .map(|(pattern, counts)| (*pattern, Arc::clone(counts)))
                .collect()
        };
        let all = || {
            let matched = routes.iter().map(|(pattern, counts)| (*pattern, &**counts));
            matched.chain([(UNMATCHED, &self.0.unmatched)])
        };
        let mut requests = page.counter(
            "oncelog_http_requests_total",
            "Requests answered, by the pattern of their path.",
        );
        for (route, counts) in all() {
            counts.each(|method, status, count| {
                let labels = [("route", route), ("method", method), ("status", status)];
                requests.sample(&labels, count);
            });
        }
        let mut times = page.histogram(
            "oncelog_http_request_duration_seconds",
            "From a request's head to the head of its answer, the body of the request between them.",
        );
        for (route, counts) in all() {
            times.reading(&[("route", route)], &counts.times.read());
        }
    }

    fn route(&self, pattern: &'static str) -> Arc<RouteCounts> {
        Arc::clone(self.routes().entry(pattern).or_default())
    }

    fn routes(&self) -> MutexGuard<'_, BTreeMap<&'static str, Arc<RouteCounts>>> {
        let routes = self.0.routes.lock();
        routes.unwrap_or_else(PoisonError::into_inner)
    }
}

impl RouteCounts {
    fn add(&self, method: &Method, status: StatusCode, took: Duration) {
        let method = place_of(&METHODS, method.as_str());
        let status = place_of(&STATUSES, status.as_u16());
        self.by_method[method][status].fetch_add(1, Ordering::Relaxed);
        self.times.add(took);
    }

    /// Shows every count that is not 0.
    fn each(&self, mut show: impl FnMut(&str, &str, u64)) {
        for (method, by_status) in self.by_method.iter().enumerate() {
            let method = METHODS.get(method).copied().unwrap_or(OTHER);
            for (status, count) in by_status.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                let status = STATUSES.get(status).map(u16::to_string);
                if count > 0 {
                    show(method, status.as_deref().unwrap_or(OTHER), count);
                }
            }
        }
    }
}

/// Where it is among those known; behind them where it is none of them.
fn place_of<T: PartialEq>(known: &[T], one: T) -> usize {
    let place = known.iter().position(|known| *known == one);
    place.unwrap_or(known.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_invent_is_one_series() {
        let counts = RouteCounts::default();
        let mut invented = ["BREW", "WHEN", "GET"].map(|name| name.parse::<Method>().unwrap());
        for method in &mut invented {
            counts.add(method, StatusCode::METHOD_NOT_ALLOWED, Duration::ZERO);
        }
        counts.add(&Method::POST, StatusCode::IM_A_TEAPOT, Duration::ZERO);
        let mut series = Vec::new();
        counts.each(|method, status, count| series.push(format!("{method} {status} {count}")));
        assert_eq!(series, ["POST other 1", "GET 405 1", "other 405 2"]);
        assert_eq!(counts.times.read().count, 4);
    }

    #[test]
    fn workers_count_a_route_together() {
        let meter = RequestMeter::default();
        for _ in 0..2 {
            let counts = meter.route("/a/{b}");
            counts.add(&Method::GET, StatusCode::OK, Duration::from_millis(3));
        }
        let mut page = Page::default();
        meter.write(&mut page);
        let text = page.into_text();
        let line =
            "oncelog_http_requests_total{route=\"/a/{b}\",method=\"GET\",status=\"200\"} 2\n";
        assert!(text.contains(line), "{text}");
    }
}
