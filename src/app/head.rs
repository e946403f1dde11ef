//! Gives back the room of a request's headers that they do not need: actix-http sets 6.7 KB aside for each
//! request, which one that waits for its commit would hold meanwhile. Used by `server`.

use actix_web::http::header::HeaderMap;
use std::mem;

/// What a table of headers has room for, in the order of its sizes; the next one is actix-http's own.
const ROOMS: [usize; 2] = [7, 14];

/// Moves headers into the smallest room that is enough for them. actix-http keeps heads for later requests, so
/// that most come small already.
pub(super) fn shrink(headers: &mut HeaderMap) {
    let enough = |room: &&usize| **room >= headers.len_keys();
    let Some(&room) = ROOMS.iter().find(enough) else {
        return;
    };
    if headers.capacity() <= room {
        return;
    }
    let mut smaller = HeaderMap::with_capacity(room);
    for (name, value) in mem::take(headers) {
        smaller.append(name, value);
    }
    *headers = smaller;
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    #[test]
    fn what_is_shrunk_holds_the_same_values_in_the_same_order() {
        for names in 0..20 {
            let mut headers = HeaderMap::with_capacity(16);
            for place in 0..2 * names {
                let name = HeaderName::try_from(format!("name-{}", place / 2)).unwrap();
                headers.append(name, HeaderValue::from(place));
            }
            let before = headers.clone();
            shrink(&mut headers);
            assert_eq!(headers.len(), before.len());
            for name in before.keys() {
                assert!(headers.get_all(name).eq(before.get_all(name)), "{name}");
            }
            let room = ROOMS.iter().find(|room| **room >= names);
            let room = room.copied().unwrap_or(before.capacity());
            assert!(headers.capacity() <= room, "{}", headers.capacity());
        }
    }
}
