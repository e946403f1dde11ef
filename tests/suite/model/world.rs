//! The model: what a service that keeps its promises may hold, and what it answers from it. Knows
//! nothing of HTTP, of databases and of crashes.
//!
//! A request that got no answer may be stored, now, later or never. So there is not one state but a
//! set of possible worlds; whatever is seen rules out those in which it could not be seen.

use std::collections::{BTreeMap, BTreeSet};

/// A topic, an id below it, and one of several contents that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) topic: u8,
    pub(super) id: u8,
    pub(super) content: u8,
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Request {
    Single(Item),
    Batch(Vec<Item>),
    /// Good events, and one that is none.
    Invalid(Vec<Item>),
}

/// What it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Single(&'static str),
    Batch {
        stored: u64,
        duplicates: u64,
        conflicts: u64,
    },
    Refused,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct World {
    /// Contents by topic and id.
    pub(super) rows: BTreeMap<(u8, u8), u8>,
    /// Duplicates by topic.
    pub(super) duplicates: BTreeMap<u8, u64>,
    pub(super) conflicts: u64,
    /// What was sent and never answered, and is not stored yet.
    unanswered: Vec<Request>,
}

impl World {
    fn take(&mut self, request: &Request) -> Reply {
        let items = match request {
            Request::Single(item) => std::slice::from_ref(item),
            Request::Batch(items) => items,
            Request::Invalid(_) => return Reply::Refused,
        };
        let (mut stored, mut duplicates, mut conflicts) = (0, 0, 0);
        for item in items {
            match self.rows.get(&(item.topic, item.id)) {
                None => {
                    self.rows.insert((item.topic, item.id), item.content);
                    stored += 1;
                }
                Some(&content) => {
                    duplicates += 1;
                    conflicts += u64::from(content != item.content);
                    *self.duplicates.entry(item.topic).or_default() += 1;
                }
            }
        }
        self.conflicts += conflicts;
        match request {
            Request::Single(_) if stored == 1 => Reply::Single("stored"),
            Request::Single(_) if conflicts == 1 => Reply::Single("conflict"),
            Request::Single(_) => Reply::Single("duplicate"),
            _ => Reply::Batch {
                stored,
                duplicates,
                conflicts,
            },
        }
    }
}

/// All worlds that what was seen so far leaves possible.
pub(super) struct Worlds(BTreeSet<World>);

impl Worlds {
    pub(super) fn new() -> Self {
        Self(BTreeSet::from([World::default()]))
    }

    /// Requests that were under way at the same time, each with its reply or without one.
    pub(super) fn saw_together(&mut self, sent: &[(Request, Option<Reply>)]) {
        let (answered, unanswered): (Vec<_>, Vec<_>) =
            sent.iter().partition(|(_, reply)| reply.is_some());
        self.each(|world| {
            let requests = unanswered.iter().map(|(request, _)| request.clone());
            world.unanswered.extend(requests);
        });
        let before = self.0.clone();
        let mut after = BTreeSet::new();
        for order in orders(answered.len()) {
            let mut worlds = Self(before.clone());
            for place in order {
                let (request, reply) = answered[place];
                worlds.let_time_pass();
                let worlds_before = std::mem::take(&mut worlds.0);
                for mut world in worlds_before {
                    if Some(world.take(request)) == *reply {
                        worlds.0.insert(world);
                    }
                }
            }
            after.append(&mut worlds.0);
        }
        assert!(!after.is_empty(), "{sent:?} fits none of {before:#?}");
        self.0 = after;
    }

    /// Something was read.
    pub(super) fn saw(&mut self, what: &str, fits: impl Fn(&World) -> bool) {
        self.let_time_pass();
        let before = self.0.clone();
        self.0.retain(fits);
        assert!(!self.0.is_empty(), "{what} fits none of {before:#?}");
    }

    /// Whoever might still have stored something is gone.
    pub(super) fn saw_the_end_of_the_process(&mut self) {
        self.let_time_pass();
        self.each(|world| world.unanswered.clear());
    }

    /// How many there are: one, where nothing is in doubt.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Any of the unanswered may be stored meanwhile, in any order.
    fn let_time_pass(&mut self) {
        let mut fresh: Vec<World> = self.0.iter().cloned().collect();
        while let Some(world) = fresh.pop() {
            for place in 0..world.unanswered.len() {
                let mut next = world.clone();
                let request = next.unanswered.remove(place);
                next.take(&request);
                if self.0.insert(next.clone()) {
                    fresh.push(next);
                }
            }
        }
    }

    fn each(&mut self, change: impl Fn(&mut World)) {
        let worlds = std::mem::take(&mut self.0).into_iter();
        self.0 = worlds
            .map(|mut world| {
                change(&mut world);
                world
            })
            .collect();
    }
}

/// Every order of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for next in 0..count {
        orders = orders
            .iter()
            .flat_map(|order| {
                (0..=next).map(|place| {
                    let mut longer = order.clone();
                    longer.insert(place, next);
                    longer
                })
            })
            .collect();
    }
    orders
}
