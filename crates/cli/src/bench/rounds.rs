//! Rounds: several things measured in turn, so that whatever else the machine does hits all of them alike.
//!
//! A figure is only ever compared with one from the same round; the result is the median of those ratios.

use std::time::Instant;

/// What one thing took, round by round: nanoseconds per operation, or operations per second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures(pub(crate) Vec<f64>);

impl Figures {
    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        median(self.0.clone())
    }

    /// The median of the ratios to another's figures, each to that of the same round.
    pub(crate) fn over(&self, other: &Figures) -> f64 {
        median(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine / theirs).collect())
    }

    /// The median of the differences to another's figures, each to that of the same round.
    pub(crate) fn minus(&self, other: &Figures) -> f64 {
        median(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine - theirs).collect())
    }
}

/// The middle of some numbers; zero of none.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match (numbers.len(), numbers.len() / 2) {
        (0, _) => 0.0,
        (n, half) if n % 2 == 1 => numbers[half],
        (_, half) => (numbers[half - 1] + numbers[half]) / 2.0,
    }
}

/// Runs every side once a round, each round beginning with another one. A side gives its figure.
pub(crate) fn rotate(rounds: usize, sides: &mut [&mut dyn FnMut() -> f64]) -> Vec<Figures> {
    let mut figures = vec![Figures::default(); sides.len()];
    for round in 0..rounds {
        for turn in 0..sides.len() {
            let side = (round + turn) % sides.len();
            let figure = sides[side]();
            figures[side].0.push(figure);
        }
    }
    figures
}

/// Calls timed together: enough that reading the clock does not count, few enough that most of them are not
/// interrupted.
const TOGETHER: usize = 8;

/// Nanoseconds per call: the median over small groups of so many calls.
pub(crate) fn each(calls: usize, mut call: impl FnMut()) -> f64 {
    let mut group = || {
        let start = Instant::now();
        (0..TOGETHER).for_each(|_| call());
        start.elapsed().as_nanos() as f64 / TOGETHER as f64
    };
    median((0..calls / TOGETHER).map(|_| group()).collect())
}

/// The machine's load averages, as it states them.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn figures_are_compared_within_their_round() {
        use super::{Figures, median};
        let (quiet, noisy) = (Figures(vec![1.0, 10.0, 2.0]), Figures(vec![2.0, 20.0, 3.0]));
        assert_eq!(noisy.over(&quiet), 2.0, "a slow round slows both");
        assert_eq!(noisy.minus(&quiet), 1.0);
        assert_eq!(quiet.median(), 2.0);
        assert_eq!(median(vec![4.0, 2.0]), 3.0);
        assert_eq!(median(vec![]), 0.0);
    }

    #[test]
    fn every_side_runs_once_a_round_and_none_is_always_first() {
        use super::rotate;
        let order = std::cell::RefCell::new(Vec::new());
        let (mut a, mut b) =
            (|| (order.borrow_mut().push('a'), 1.0).1, || (order.borrow_mut().push('b'), 2.0).1);
        let figures = rotate(2, &mut [&mut a, &mut b]);
        assert_eq!(figures.iter().map(|f| f.0.clone()).collect::<Vec<_>>(), [[1.0, 1.0], [2.0, 2.0]]);
        assert_eq!(*order.borrow(), ['a', 'b', 'b', 'a']);
    }
}
