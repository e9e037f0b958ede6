//! The two clocks of a machine, read at the edge and nowhere else.

use bailiwick_core::Time;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall clock and monotonic clock.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, and milliseconds of the monotonic clock since some fixed moment.
    fn read(&self) -> (Time, u64);
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn read(&self) -> (Time, u64) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        (Time(wall), self.start.elapsed().as_millis() as u64)
    }
}

/// The machine's clocks, and some time ahead of them that can only grow. For servers started with a test clock,
/// which say so loudly.
#[derive(Debug, Default)]
pub struct ShiftedClock {
    system: SystemClock,
    ahead_ms: AtomicU64,
}

impl ShiftedClock {
    /// Goes this much further ahead.
    pub fn advance_ms(&self, ms: u64) {
        let _ = self.ahead_ms.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |ahead| ahead.checked_add(ms));
    }
}

impl Clock for ShiftedClock {
    fn read(&self) -> (Time, u64) {
        let (wall, mono) = self.system.read();
        let ahead = self.ahead_ms.load(Ordering::SeqCst);
        (wall.plus_ms(ahead), mono.saturating_add(ahead))
    }
}

/// A clock that stands still until it is moved. For tests.
#[derive(Debug, Default)]
pub struct TestClock {
    wall: AtomicU64,
    mono: AtomicU64,
}

impl TestClock {
    /// Starts at a wall time.
    pub fn at(wall: Time) -> Self {
        TestClock { wall: AtomicU64::new(wall.0), mono: AtomicU64::new(0) }
    }
    /// Lets both clocks go on.
    pub fn advance_ms(&self, ms: u64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.mono.fetch_add(ms, Ordering::SeqCst);
    }
    /// Sets the wall clock alone, as an operator or a bad time server would.
    pub fn step_wall(&self, to: Time) {
        self.wall.store(to.0, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn read(&self) -> (Time, u64) {
        (Time(self.wall.load(Ordering::SeqCst)), self.mono.load(Ordering::SeqCst))
    }
}
