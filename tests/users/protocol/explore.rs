//! Visits every state that a scenario can reach: any order of steps, with crashes before any step, and time passing between any two.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use super::actor::Actor;
use super::checks::always;
use super::rules::Rules;
use super::world::{Moment, World};

/// What is explored.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) world: World,
    pub(crate) actors: Vec<Actor>,
    /// How many may stop for good, anywhere.
    pub(crate) crashes: u8,
    /// How time passes, in this order.
    pub(crate) jumps: &'static [Jump],
    /// Holds in every state.
    pub(crate) always: Check,
    /// Holds where nothing goes on.
    pub(crate) finally: Check,
}

impl Scenario {
    /// Makes one in which no time passes, and in which what [`always`] asks for holds in every state.
    pub(crate) fn new(
        name: &'static str,
        world: World,
        actors: Vec<Actor>,
        crashes: u8,
        finally: Check,
    ) -> Self {
        Self {
            name,
            world,
            actors,
            crashes,
            jumps: &[],
            always,
            finally,
        }
    }
}

/// Tells what is wrong with a state.
pub(crate) type Check = fn(&State, Rules) -> Result<(), String>;

/// A while that passes.
#[derive(Clone, Copy)]
pub(crate) enum Jump {
    /// At any moment.
    Any(Moment),
    /// While nobody is amid anything.
    Calm(Moment),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) actors: Vec<Actor>,
    pub(crate) dead: Vec<bool>,
    crashes: u8,
    jumps: usize,
}

/// How much there was to explore.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) states: usize,
    pub(crate) endings: usize,
}

/// Remembers how a state was reached.
struct Origin {
    from: usize,
    actor: u8,
    what: &'static str,
}

struct Exploration {
    seen: HashSet<(u64, u64), Ready>,
    origins: Vec<Origin>,
    /// The states that the last round found, and where each has its origin.
    fresh: Vec<(usize, State)>,
}

const CLOCK: u8 = u8::MAX;

impl Scenario {
    /// Visits all, the nearest first. Returns what is wrong, and the shortest way there, if anything is.
    pub(crate) fn explore(&self, rules: Rules) -> Result<Extent, String> {
        let start = State {
            world: self.world.clone(),
            actors: self.actors.clone(),
            dead: vec![false; self.actors.len()],
            crashes: self.crashes,
            jumps: 0,
        };
        let mut exploration = Exploration {
            seen: HashSet::default(),
            origins: Vec::new(),
            fresh: Vec::new(),
        };
        exploration.visit(
            start,
            Origin {
                from: usize::MAX,
                actor: CLOCK,
                what: "",
            },
        );
        let mut endings = 0;
        while !exploration.fresh.is_empty() {
            for (at, state) in std::mem::take(&mut exploration.fresh) {
                self.holds(self.always, &state, at, &exploration, rules)?;
                if !self.spread(&state, at, &mut exploration, rules) {
                    endings += 1;
                    self.holds(self.finally, &state, at, &exploration, rules)?;
                }
            }
        }
        Ok(Extent {
            states: exploration.origins.len(),
            endings,
        })
    }

    /// Visits what can come next. Returns `false` if nothing can.
    fn spread(
        &self,
        state: &State,
        at: usize,
        exploration: &mut Exploration,
        rules: Rules,
    ) -> bool {
        let mut moved = self.pass_time(state, at, exploration);
        for (index, number) in (0..state.actors.len()).zip(0u8..) {
            if state.dead[index] {
                continue;
            }
            let steps = state.actors[index].step(&state.world, rules);
            if steps.is_empty() {
                continue;
            }
            moved = true;
            if state.crashes > 0 {
                exploration.visit(
                    state.crashed(index),
                    Origin {
                        from: at,
                        actor: number,
                        what: "crashes",
                    },
                );
            }
            for (actor, world, what) in steps {
                exploration.visit(
                    state.with(index, actor, world),
                    Origin {
                        from: at,
                        actor: number,
                        what,
                    },
                );
            }
        }
        moved
    }

    fn pass_time(&self, state: &State, at: usize, exploration: &mut Exploration) -> bool {
        let by = match self.jumps.get(state.jumps) {
            Some(Jump::Any(by)) => *by,
            Some(Jump::Calm(by)) if state.is_calm() => *by,
            _ => return false,
        };
        let mut next = state.clone();
        next.world.now += by;
        next.jumps += 1;
        exploration.visit(
            next,
            Origin {
                from: at,
                actor: CLOCK,
                what: "time passes",
            },
        );
        true
    }

    fn holds(
        &self,
        check: Check,
        state: &State,
        at: usize,
        exploration: &Exploration,
        rules: Rules,
    ) -> Result<(), String> {
        check(state, rules).map_err(|wrong| {
            let mut text = format!("{}: {wrong}\n", self.name);
            for origin in exploration.way_to(at) {
                let who = self
                    .actors
                    .get(usize::from(origin.actor))
                    .map_or("the clock", Actor::name);
                let _ = writeln!(text, "  {} ({who}): {}", origin.actor, origin.what);
            }
            let _ = writeln!(text, "{:#?}", state.world);
            text
        })
    }
}

impl State {
    fn crashed(&self, index: usize) -> Self {
        let mut next = self.clone();
        next.dead[index] = true;
        next.crashes -= 1;
        next
    }

    fn with(&self, index: usize, actor: Actor, world: World) -> Self {
        let mut actors = self.actors.clone();
        actors[index] = actor;
        Self {
            world,
            actors,
            dead: self.dead.clone(),
            ..*self
        }
    }

    /// Returns `true` if nobody who lives is amid anything.
    fn is_calm(&self) -> bool {
        self.actors
            .iter()
            .zip(&self.dead)
            .all(|(actor, dead)| *dead || actor.idle())
    }

    pub(crate) fn crashed_any(&self) -> bool {
        self.dead.contains(&true)
    }
}

impl Exploration {
    fn visit(&mut self, state: State, origin: Origin) {
        let mut print = Fingerprint::default();
        state.hash(&mut print);
        if self.seen.insert((print.low, print.high)) {
            self.fresh.push((self.origins.len(), state));
            self.origins.push(origin);
        }
    }

    fn way_to(&self, at: usize) -> Vec<&Origin> {
        let mut way = Vec::new();
        let mut at = at;
        while let Some(origin) = self
            .origins
            .get(at)
            .filter(|origin| origin.from != usize::MAX)
        {
            way.push(origin);
            at = origin.from;
        }
        way.reverse();
        way
    }
}

/// Hashes a state to 128 bits, which stand for it: among millions of states, two that agree are not to be expected.
struct Fingerprint {
    low: u64,
    high: u64,
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self {
            low: 0x243F_6A88_85A3_08D3,
            high: 0x1319_8A2E_0370_7344,
        }
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.low
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.low = (self.low ^ value)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29);
        self.high = (self.high.rotate_left(23) ^ value).wrapping_mul(0xD6E8_FEB8_6659_FD93)
            ^ (self.low >> 32);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }
}

/// Takes what is hashed already as it is.
#[derive(Clone, Copy, Default)]
struct Ready;

impl std::hash::BuildHasher for Ready {
    type Hasher = First;

    fn build_hasher(&self) -> First {
        First(0)
    }
}

struct First(u64);

impl Hasher for First {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, value: u64) {
        self.0 ^= value;
    }
}
