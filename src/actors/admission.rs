//! The door: what is in flight is counted before it is let in. Used by everybody who hands events
//! to the actors. An actix mailbox bounds nothing, so nothing behind the door needs to.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts the events and the bytes in flight.
#[derive(Debug, Clone)]
pub struct Admission {
    events: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    events_max: usize,
    bytes_max: usize,
}

/// No more is let in right now; nothing of the request was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is in flight")]
pub struct Overloaded;

/// Bytes that are let in, given back when dropped.
#[derive(Debug)]
pub struct BytesPermit {
    bytes: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

/// A request that is let in: its bytes and its events, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _bytes: BytesPermit,
    _events: OwnedSemaphorePermit,
}

impl Admission {
    /// A door for so many events and so many bytes at a time.
    pub fn new(events_max: usize, bytes_max: usize) -> Self {
        Self {
            events: Arc::new(Semaphore::new(events_max)),
            bytes: Arc::new(Semaphore::new(bytes_max)),
            events_max,
            bytes_max,
        }
    }

    /// A permit for no bytes yet, that grows with a body as it is read.
    pub fn bytes_permit(&self) -> BytesPermit {
        BytesPermit {
            bytes: Arc::clone(&self.bytes),
            held: None,
        }
    }

    /// Whether not even one event would be let in right now.
    pub fn is_full(&self) -> bool {
        self.events.available_permits() == 0
    }

    /// Lets a request in, now or not at all.
    ///
    /// # Errors
    /// [`Overloaded`] where too many events are in flight.
    pub fn admit(&self, events: usize, bytes: BytesPermit) -> Result<Permit, Overloaded> {
        let events = u32::try_from(events).map_err(|_| Overloaded)?;
        let events = Arc::clone(&self.events)
            .try_acquire_many_owned(events)
            .map_err(|_| Overloaded)?;
        Ok(Permit {
            _bytes: bytes,
            _events: events,
        })
    }

    /// Lets a request in as soon as there is room. Those who wait are served in turn.
    pub async fn admit_waiting(&self, events: usize, bytes: usize) -> Result<Permit, Overloaded> {
        let count =
            |number: usize, max: usize| u32::try_from(number.min(max)).map_err(|_| Overloaded);
        let acquired = Arc::clone(&self.bytes)
            .acquire_many_owned(count(bytes, self.bytes_max)?)
            .await;
        let bytes = BytesPermit {
            bytes: Arc::clone(&self.bytes),
            held: Some(acquired.map_err(|_| Overloaded)?),
        };
        let events = Arc::clone(&self.events)
            .acquire_many_owned(count(events, self.events_max)?)
            .await;
        Ok(Permit {
            _bytes: bytes,
            _events: events.map_err(|_| Overloaded)?,
        })
    }

    /// Events in flight.
    pub fn events_in_flight(&self) -> usize {
        self.events_max
            .saturating_sub(self.events.available_permits())
    }

    /// The most events in flight.
    pub fn events_max(&self) -> usize {
        self.events_max
    }

    /// The most bytes in flight.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes in flight, bodies that are still being read among them.
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes_max
            .saturating_sub(self.bytes.available_permits())
    }
}

impl BytesPermit {
    /// Asks for more bytes, now or not at all.
    ///
    /// # Errors
    /// [`Overloaded`] where too many bytes are in flight; what is held stays held.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Overloaded> {
        let bytes = u32::try_from(bytes).map_err(|_| Overloaded)?;
        let more = Arc::clone(&self.bytes)
            .try_acquire_many_owned(bytes)
            .map_err(|_| Overloaded)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }

    /// Gives some of the bytes back.
    pub fn shrink(&mut self, bytes: usize) {
        if let Some(held) = &mut self.held {
            drop(held.split(bytes.min(held.num_permits())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_free_again() {
        let door = Admission::new(10, 100);
        let mut bytes = door.bytes_permit();
        bytes.grow(60).unwrap();
        assert_eq!(bytes.grow(41), Err(Overloaded));
        bytes.grow(40).unwrap();
        bytes.shrink(30);
        assert_eq!(door.bytes_in_flight(), 70);
        bytes.grow(30).unwrap();
        let permit = door.admit(9, bytes).unwrap();
        assert!(!door.is_full());
        let last = door.admit(1, door.bytes_permit()).unwrap();
        assert!(door.is_full());
        assert!(door.admit(1, door.bytes_permit()).is_err());
        assert_eq!((door.events_in_flight(), door.bytes_in_flight()), (10, 100));
        drop((permit, last));
        assert_eq!((door.events_in_flight(), door.bytes_in_flight()), (0, 0));
    }
}
