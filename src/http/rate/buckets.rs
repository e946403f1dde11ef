//! The buckets and how they fill, as arithmetic on a clock that the caller reads. In bounded memory: an
//! address is forgotten when its bucket is full again, and beyond a number of them the rest share one.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// Addresses with a bucket of their own, in about 4 MB.
const ADDRESSES_MAX: usize = 65_536;
/// Between two looks for full buckets, each of which looks at all of them.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// What a client is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// A known token, by its place among them.
    Token(usize),
    /// An address of IPv4, or the first half of one of IPv6: whoever has one has all of that half.
    Address(IpAddr),
}

impl Client {
    pub(super) fn of_address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// How fast every bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// The time in which one unit flows in.
    unit: Duration,
    /// The time in which an empty bucket becomes full.
    whole: Duration,
}

/// When the bucket will be full, on the caller's clock; that it is full where this has passed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    full_at: Duration,
}

impl Rate {
    pub(super) fn new(per_s: u32, burst: u32) -> Self {
        let unit = Duration::from_secs(1) / per_s.max(1);
        Self {
            unit,
            whole: unit.saturating_mul(burst.max(1)),
        }
    }

    /// Takes units where as many as are needed are left, and more than are left if need be. Else says in
    /// which time there will be one.
    pub(super) fn take(
        self,
        bucket: &mut Bucket,
        now: Duration,
        units: u32,
        needed: u32,
    ) -> Result<(), Duration> {
        let until_full = bucket.full_at.saturating_sub(now);
        if until_full + self.unit.saturating_mul(needed) > self.whole {
            return Err((until_full + self.unit).saturating_sub(self.whole));
        }
        bucket.full_at = now + until_full + self.unit.saturating_mul(units);
        Ok(())
    }
}

/// The buckets of all clients.
#[derive(Debug)]
pub(super) struct Buckets {
    tokens: Vec<Bucket>,
    addresses: HashMap<IpAddr, Bucket>,
    addresses_max: usize,
    /// That of the addresses for which there is no room.
    shared: Bucket,
    swept_at: Duration,
}

impl Buckets {
    pub(super) fn new(tokens: usize) -> Self {
        Self {
            tokens: vec![Bucket::default(); tokens],
            addresses: HashMap::new(),
            addresses_max: ADDRESSES_MAX,
            shared: Bucket::default(),
            swept_at: Duration::ZERO,
        }
    }

    pub(super) fn of(&mut self, client: Client, now: Duration) -> &mut Bucket {
        match client {
            Client::Token(place) => self.tokens.get_mut(place).unwrap_or(&mut self.shared),
            Client::Address(address) => {
                if !self.addresses.contains_key(&address) && !self.has_room(now) {
                    return &mut self.shared;
                }
                self.addresses.entry(address).or_default()
            }
        }
    }

    /// Whether one more address has room. Forgets those whose bucket is full: a new one is full, too.
    fn has_room(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.swept_at) >= SWEEP_PAUSE {
            self.swept_at = now;
            self.addresses.retain(|_, bucket| bucket.full_at > now);
        }
        self.addresses.len() < self.addresses_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn address(text: &str) -> Client {
        Client::of_address(text.parse().unwrap())
    }

    #[test]
    fn a_burst_is_taken_at_once_and_the_rest_at_the_rate() {
        let (rate, mut bucket) = (Rate::new(10, 3), Bucket::default());
        let start = 7 * S;
        for _ in 0..3 {
            assert_eq!(rate.take(&mut bucket, start, 1, 1), Ok(()));
        }
        let wait = rate.take(&mut bucket, start, 1, 1).unwrap_err();
        assert_eq!(wait, S / 10);
        assert!(rate.take(&mut bucket, start + wait / 2, 1, 1).is_err());
        assert_eq!(rate.take(&mut bucket, start + wait, 1, 1), Ok(()));
        assert!(rate.take(&mut bucket, start + wait, 1, 1).is_err());
    }

    #[test]
    fn a_pause_of_any_length_gives_one_burst() {
        let (rate, mut bucket) = (Rate::new(10, 3), Bucket::default());
        let taken = |bucket: &mut Bucket, now| {
            let calls = (0..100).map(|_| rate.take(bucket, now, 1, 1));
            calls.filter(Result::is_ok).count()
        };
        assert_eq!(taken(&mut bucket, S), 3);
        assert_eq!(taken(&mut bucket, 1000 * S), 3);
    }

    #[test]
    fn a_batch_larger_than_the_bucket_is_let_in_once_and_waited_for() {
        let (rate, mut bucket) = (Rate::new(10, 2), Bucket::default());
        for _ in 0..2 {
            // Let in side by side; what they bring is known later.
            assert_eq!(rate.take(&mut bucket, S, 1, 1), Ok(()));
        }
        assert_eq!(rate.take(&mut bucket, S, 999, 0), Ok(()));
        assert_eq!(rate.take(&mut bucket, S, 999, 0), Err(100 * S));
        assert_eq!(rate.take(&mut bucket, S, 1, 1), Err(100 * S));
        assert_eq!(rate.take(&mut bucket, 101 * S, 1, 1), Ok(()));
    }

    #[test]
    fn over_a_long_time_nobody_gets_more_than_the_rate() {
        let (rate, mut bucket) = (Rate::new(7, 5), Bucket::default());
        let mut units = 0;
        for step in 0..100_000u32 {
            let now = step * Duration::from_millis(1);
            if rate.take(&mut bucket, now, 1, 1).is_ok() {
                units += 1;
                let batch = step % 13;
                units += match rate.take(&mut bucket, now, batch, 0) {
                    Ok(()) => batch,
                    Err(_) => 0,
                };
            }
        }
        // 100 s at 7, one burst, and the last batch.
        assert!((700..=700 + 5 + 13).contains(&units), "{units}");
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client_and_mapped_ones_are_ipv4() {
        assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff::9"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
        assert_ne!(address("192.0.2.8"), address("192.0.2.7"));
    }

    #[test]
    fn an_address_is_forgotten_when_its_bucket_is_full() {
        let (rate, mut buckets) = (Rate::new(1, 5), Buckets::new(0));
        for last in 0..100u8 {
            let client = Client::of_address([192, 0, 2, last].into());
            rate.take(buckets.of(client, S), S, 1, 1).unwrap();
        }
        assert_eq!(buckets.addresses.len(), 100);
        buckets.of(address("198.51.100.1"), 3 * S);
        assert_eq!(buckets.addresses.len(), 1);
    }

    #[test]
    fn addresses_beyond_the_number_share_a_bucket_until_there_is_room() {
        let (rate, mut buckets) = (Rate::new(1, 2), Buckets::new(1));
        buckets.addresses_max = 2;
        let mut take = |client: Client, now| {
            let bucket = buckets.of(client, now);
            rate.take(bucket, now, 1, 1).is_ok()
        };
        for known in ["192.0.2.1", "192.0.2.2"] {
            assert!(take(address(known), S) && take(address(known), S));
        }
        assert!(take(address("192.0.2.3"), S) && take(address("192.0.2.4"), S));
        assert!(!take(address("192.0.2.5"), S), "the shared one is empty");
        assert!(take(Client::Token(0), S), "a token has its own");
        assert!(!take(address("192.0.2.1"), S), "and so has who was first");
        assert!(take(address("192.0.2.5"), 4 * S) && take(address("192.0.2.4"), 4 * S));
        assert!(buckets.addresses.len() <= 2);
    }
}
