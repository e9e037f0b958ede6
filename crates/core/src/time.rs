//! Time as an argument. Nothing here reads a clock.
//!
//! INV11: no step of a wall clock extends anything. [`Timekeeper`] turns the two clocks of a machine into
//! one time that never runs backwards and, when the wall clock is set back, goes on at the pace of the
//! monotonic clock.

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01 00:00 UTC, as a [`Timekeeper`] gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// This time and `ms` milliseconds; at most the end of time.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Time(self.0.saturating_add(ms))
    }
    /// Milliseconds from `earlier` to this time; zero if it is later.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
    /// Whole seconds, rounded down (NumericDate of RFC 7519).
    pub fn secs(self) -> u64 {
        self.0 / 1000
    }
    /// The first instant of a whole second.
    pub fn from_secs(secs: u64) -> Self {
        Time(secs.saturating_mul(1000))
    }
}

/// Merges a wall clock that may step with a monotonic clock that may not.
///
/// Feed it both readings; it answers a time that is at least the wall clock's, at least the last answer
/// plus the monotonic time gone by, and never less than the high-water mark it was started with.
#[derive(Debug, Clone)]
pub struct Timekeeper {
    last: Time,
    last_mono_ms: u64,
}

impl Timekeeper {
    /// Starts at a high-water mark (the newest time in the log, or zero) and a monotonic reading.
    pub fn new(high_water: Time, mono_ms: u64) -> Self {
        Timekeeper { last: high_water, last_mono_ms: mono_ms }
    }
    /// The time now, given both clocks. Total: a monotonic reading that goes back counts as standing still.
    pub fn now(&mut self, wall: Time, mono_ms: u64) -> Time {
        let carried = self.last.plus_ms(mono_ms.saturating_sub(self.last_mono_ms));
        self.last = carried.max(wall);
        self.last_mono_ms = self.last_mono_ms.max(mono_ms);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wall_clock_set_back_an_hour_does_not_stop_an_expiry() {
        let mut keeper = Timekeeper::new(Time(0), 0);
        let opened = keeper.now(Time(10_000_000), 0);
        let until = opened.plus_ms(60_000);
        let later = keeper.now(Time(10_000_000 - 3_600_000), 61_000);
        assert!(later >= until);
    }

    proptest! {
        // proves: INV11, A62
        #[test]
        fn whatever_the_wall_clock_does_validity_never_outlives_its_monotonic_life(
            steps in prop::collection::vec((any::<u32>(), 0u64..5_000), 1..64), life in 1u64..60_000
        ) {
            let mut keeper = Timekeeper::new(Time(1_000_000), 0);
            let mut mono = 0;
            let granted = keeper.now(Time(2_000_000), mono);
            let until = granted.plus_ms(life);
            let mut last = granted;
            for (wall, tick) in steps {
                mono += tick;
                let now = keeper.now(Time(u64::from(wall)), mono);
                prop_assert!(now >= last);
                if mono >= life { prop_assert!(now >= until); }
                last = now;
            }
        }
    }
}
