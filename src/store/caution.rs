//! Whether a writer looks up a group's keys before it inserts them, on either engine. A look-up costs up to a
//! fifth of the statement and finds nothing where repeats are known from memory; an insert without one fails as a
//! whole where a key is taken after all, and Postgres logs that. So it is left out only after many
//! groups in which it found nothing, and after more of them each time that it was missed.

/// Groups in a row whose look-up found nothing, before the first without one.
const CLEAN_MIN: u32 = 64;
/// The same once it was missed often: an insert in vain among as many groups can be borne for ever.
const CLEAN_MAX: u32 = 8_192;

#[derive(Debug)]
pub(super) struct Caution {
    /// Of the memory of recent keys: what it forgets has to be looked up.
    session: u64,
    clean: u32,
    clean_wanted: u32,
}

impl Caution {
    pub(super) fn new() -> Self {
        Self {
            session: 0,
            clean: 0,
            clean_wanted: CLEAN_MIN,
        }
    }

    /// The memory that this group was looked for in.
    pub(super) fn relies_on(&mut self, session: u64) {
        if self.session != session {
            self.session = session;
            self.clean = 0;
        }
    }

    /// Whether the keys of the next group are to be looked up.
    pub(super) fn looks(&self) -> bool {
        self.clean < self.clean_wanted
    }

    /// A look-up found nothing.
    pub(super) fn found_none(&mut self) {
        self.clean = self.clean.saturating_add(1);
    }

    /// A look-up found keys that are taken.
    pub(super) fn found_some(&mut self) {
        self.clean = 0;
    }

    /// A group was inserted without a look-up, and a key was taken.
    pub(super) fn missed_some(&mut self) {
        self.clean = 0;
        self.clean_wanted = (self.clean_wanted * 2).min(CLEAN_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many groups are looked up before the next one is not.
    fn looks_before_trust(caution: &mut Caution) -> u32 {
        let mut looks = 0;
        while caution.looks() {
            caution.found_none();
            looks += 1;
        }
        looks
    }

    #[test]
    fn nothing_is_trusted_before_many_groups_were_clean() {
        let mut caution = Caution::new();
        for _ in 1..CLEAN_MIN {
            caution.found_none();
        }
        caution.found_some();
        assert_eq!(looks_before_trust(&mut caution), CLEAN_MIN);
    }

    #[test]
    fn each_miss_makes_the_next_one_rarer_up_to_a_bound() {
        let mut caution = Caution::new();
        let mut wanted = CLEAN_MIN;
        for _ in 0..20 {
            assert_eq!(looks_before_trust(&mut caution), wanted);
            caution.missed_some();
            wanted = (wanted * 2).min(CLEAN_MAX);
        }
        assert_eq!(wanted, CLEAN_MAX);
    }
}
