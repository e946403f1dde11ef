//! Lets calls in: by the right to them, and by how often their client may ask. One rate for all, and a
//! bucket of its own for each token and each address. Every route that needs a right asks here.

mod buckets;

use super::{
    HttpState,
    auth::{AccessRules, TokenScope},
    error::ApiError,
    forwarded::TrustedProxies,
};
use actix_web::HttpRequest;
use buckets::{Buckets, Client, Rate};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use tokio::time::Instant;

/// The rate of each client, where there is one. Cheap to clone.
#[derive(Clone)]
pub struct RateLimiter(Option<Arc<Limiter>>);

struct Limiter {
    rate: Rate,
    proxies: TrustedProxies,
    started: Instant,
    buckets: Mutex<Buckets>,
    refused_by_token: AtomicU64,
    refused_by_address: AtomicU64,
}

/// Who has sent a request; nobody in particular where there is no limit.
pub(super) struct Caller(Option<(Arc<Limiter>, Client)>);

impl HttpState {
    /// Lets in a call that publishes or reads.
    pub(super) fn admit(
        &self,
        request: &HttpRequest,
        scope: TokenScope,
    ) -> Result<Caller, ApiError> {
        let caller = self.rates.caller(request, &self.access);
        // Before the token is judged: guesses count.
        caller.call()?;
        self.access.check(request, scope)?;
        Ok(caller)
    }

    /// Lets in a call of those who look after the service, who must get through at any rate.
    pub(super) fn admit_always(
        &self,
        request: &HttpRequest,
        scope: TokenScope,
    ) -> Result<(), ApiError> {
        self.unless_guessing(request, self.access.check(request, scope))
    }

    /// Counts the call where it is not let in: somebody may be guessing a token.
    pub(super) fn unless_guessing<T>(
        &self,
        request: &HttpRequest,
        checked: Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        if checked.is_err() {
            self.rates.caller(request, &self.access).call()?;
        }
        checked
    }
}

impl RateLimiter {
    /// No limit.
    pub fn off() -> Self {
        Self(None)
    }

    /// So many events or other calls a second, and so many at once after a pause. Both are positive.
    pub fn new(per_s: u32, burst: u32, access: &AccessRules, proxies: TrustedProxies) -> Self {
        Self(Some(Arc::new(Limiter {
            rate: Rate::new(per_s, burst),
            proxies,
            started: Instant::now(),
            buckets: Mutex::new(Buckets::new(access.tokens())),
            refused_by_token: AtomicU64::new(0),
            refused_by_address: AtomicU64::new(0),
        })))
    }

    /// By its token where that is known, else by its address.
    pub(super) fn caller(&self, request: &HttpRequest, access: &AccessRules) -> Caller {
        Caller(self.0.as_ref().map(|limiter| {
            let client = match access.token_of(request) {
                Some(token) => Client::Token(token),
                None => Client::of_address(limiter.proxies.client_of(request)),
            };
            (Arc::clone(limiter), client)
        }))
    }

    /// How many calls were refused, with what their client was counted by; nothing without a limit.
    pub(super) fn refused(&self) -> Option<[(&'static str, u64); 2]> {
        let limiter = self.0.as_ref()?;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some([
            ("token", read(&limiter.refused_by_token)),
            ("address", read(&limiter.refused_by_address)),
        ])
    }
}

impl Caller {
    /// Counts a call, before anything is done for it.
    pub(super) fn call(&self) -> Result<(), ApiError> {
        self.take(1, 1)
    }

    /// Counts what a call has turned out to bring beyond its first event. A batch of more than are left
    /// is let in and its client has to wait for longer, as otherwise it would never be; but not two.
    pub(super) fn bring(&self, further_events: usize) -> Result<(), ApiError> {
        match further_events {
            0 => Ok(()),
            many => self.take(u32::try_from(many).unwrap_or(u32::MAX), 0),
        }
    }

    fn take(&self, units: u32, needed: u32) -> Result<(), ApiError> {
        let Some((limiter, client)) = &self.0 else {
            return Ok(());
        };
        let now = limiter.started.elapsed();
        let taken = {
            let buckets = limiter.buckets.lock();
            let mut buckets = buckets.unwrap_or_else(PoisonError::into_inner);
            let bucket = buckets.of(*client, now);
            limiter.rate.take(bucket, now, units, needed)
        };
        taken.map_err(|wait| {
            let refused = match client {
                Client::Token(_) => &limiter.refused_by_token,
                Client::Address(_) => &limiter.refused_by_address,
            };
            refused.fetch_add(1, Ordering::Relaxed);
            // A part of a second is none to come back in.
            let retry_after_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            ApiError::RateLimited { retry_after_s }
        })
    }
}
