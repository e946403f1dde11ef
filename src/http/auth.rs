//! Who may do what: bearer tokens with scopes, the admin token, no page of another site. Asked by
//! every route that needs it; tokens are kept and compared as digests, in a time that does not depend
//! on them.

use super::error::ApiError;
use actix_web::{HttpRequest, http::header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// What a token may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenScope {
    /// Send events.
    Publish,
    /// Read events and counters.
    Read,
    /// Look at actors and crash them.
    Admin,
}

/// A token, by its digest.
#[derive(Clone)]
pub struct Token {
    digest: [u8; 32],
    scopes: Vec<TokenScope>,
}

impl Token {
    /// A token that allows these scopes.
    pub fn new(secret: &str, scopes: Vec<TokenScope>) -> Self {
        Self {
            digest: digest(secret),
            scopes,
        }
    }
}

/// The tokens of the process, and what holds without one.
#[derive(Clone)]
pub struct AccessRules(Arc<Rules>);

struct Rules {
    tokens: Vec<Token>,
    /// Publishing and reading are free where no API token is set.
    needs_api_token: bool,
    /// Without an admin token, admin calls are open on loopback and nowhere else.
    is_admin_open: bool,
}

impl AccessRules {
    /// Rules from the API tokens, the admin token, and whether only this machine can connect.
    pub fn new(api: Vec<Token>, admin_token: Option<&str>, is_loopback: bool) -> Self {
        let has_admin = admin_token.is_some()
            || api
                .iter()
                .any(|token| token.scopes.contains(&TokenScope::Admin));
        let needs_api_token = !api.is_empty();
        let mut tokens = api;
        tokens.extend(admin_token.map(|secret| Token::new(secret, vec![TokenScope::Admin])));
        Self(Arc::new(Rules {
            tokens,
            needs_api_token,
            is_admin_open: !has_admin && is_loopback,
        }))
    }

    /// Lets the request through, or says why not.
    pub(super) fn check(&self, request: &HttpRequest, scope: TokenScope) -> Result<(), ApiError> {
        if !request.method().is_safe() && is_cross_site(request) {
            return Err(ApiError::Forbidden(
                "pages of other sites may not change anything here",
            ));
        }
        let is_open = match scope {
            TokenScope::Admin => self.0.is_admin_open,
            TokenScope::Publish | TokenScope::Read => !self.0.needs_api_token,
        };
        if is_open {
            return Ok(());
        }
        if scope == TokenScope::Admin && !self.has_admin_token() {
            return Err(ApiError::Forbidden(
                "admin calls are off: no ADMIN_TOKEN is set and the service listens beyond loopback",
            ));
        }
        let secret = bearer(request).ok_or(ApiError::Unauthorized(
            "send the token as Authorization: Bearer",
        ))?;
        match self.known(secret) {
            None => Err(ApiError::Unauthorized("this token is not known")),
            Some((_, token)) if token.scopes.contains(&scope) => Ok(()),
            Some(_) => Err(ApiError::Forbidden("this token does not allow this call")),
        }
    }

    /// How many tokens there are.
    pub(super) fn tokens(&self) -> usize {
        self.0.tokens.len()
    }

    /// The place among them of the one that the request brings, where it brings one.
    pub(super) fn token_of(&self, request: &HttpRequest) -> Option<usize> {
        self.known(bearer(request)?).map(|(place, _)| place)
    }

    fn known(&self, secret: &str) -> Option<(usize, &Token)> {
        let digest = digest(secret);
        let mut found = None;
        for (place, token) in self.0.tokens.iter().enumerate() {
            if bool::from(token.digest.ct_eq(&digest)) {
                found = Some((place, token));
            }
        }
        found
    }

    /// Lets those watch who may read, and those who bring a token for admin calls. Says whether the
    /// request may do admin calls as well.
    pub(super) fn check_watching(&self, request: &HttpRequest) -> Result<bool, ApiError> {
        let is_admin = self.check(request, TokenScope::Admin).is_ok();
        let brings_admin_token = is_admin && !self.0.is_admin_open;
        match self.check(request, TokenScope::Read) {
            Err(refusal) if !brings_admin_token => Err(refusal),
            _ => Ok(is_admin),
        }
    }

    fn has_admin_token(&self) -> bool {
        let mut tokens = self.0.tokens.iter();
        tokens.any(|token| token.scopes.contains(&TokenScope::Admin))
    }
}

/// Whether a browser sends this for a page of another site (Fetch Metadata, `Sec-Fetch-Site`). No page
/// can set or remove that header, and what is no browser does not send it.
fn is_cross_site(request: &HttpRequest) -> bool {
    let mut sites = request.headers().get_all("sec-fetch-site");
    sites.any(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site"))
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}
