//! The app itself, outside of any session: a webhook or a job that adds a unit to the user's record.

use super::actor::Steps;
use super::rules::{Break, Rules};
use super::world::{Event, Name, World};

const USER: Name = 0;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Job {
    /// What tells it from others.
    number: u8,
    at: At,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum At {
    Unsent,
    /// It has seen the user's record, after so many deletions.
    Loaded(u8),
    /// The units that are said to be saved.
    Over(u8),
}

impl Job {
    pub(crate) fn new(number: u8) -> Self {
        Self {
            number,
            at: At::Unsent,
        }
    }

    /// Returns the units that are said to be saved.
    pub(crate) fn saved(&self) -> u8 {
        match self.at {
            At::Over(saved) => saved,
            _ => 0,
        }
    }

    pub(crate) fn idle(&self) -> bool {
        !matches!(self.at, At::Loaded(_))
    }

    pub(crate) fn step(&self, world: &World, rules: Rules) -> Steps<Self> {
        match self.at {
            At::Unsent => self.load(world),
            At::Loaded(deletions) => self.save(deletions, world, rules),
            At::Over(_) => Vec::new(),
        }
    }

    fn goes_on(&self, at: At, world: World, what: &'static str) -> Steps<Self> {
        vec![(Self { at, ..self.clone() }, world, what)]
    }

    fn load(&self, world: &World) -> Steps<Self> {
        let user = world.user(USER);
        if user.is_some_and(|user| user.deleted) {
            return self.goes_on(At::Over(0), world.clone(), "finds the user deleted");
        }
        let deletions = user.map_or(0, |user| user.deletions);
        let after = world.clone().noting(Event::JobLooked(self.number));
        self.goes_on(At::Loaded(deletions), after, "loads the user's record")
    }

    /// Adds the unit to the record that is there, or makes one: no session needs a place for it.
    fn save(&self, deletions: u8, world: &World, rules: Rules) -> Steps<Self> {
        let mut user = world.user(USER).cloned().unwrap_or_default();
        let is_another = user.deleted || user.deletions != deletions;
        if is_another && !rules.lack(Break::JobIgnoresDeletion) {
            return self.goes_on(At::Over(0), world.clone(), "finds the user deleted");
        }
        user.deleted = false;
        user.units += 1;
        let after = world
            .put_user(USER, user)
            .noting(Event::JobWrote(self.number));
        self.goes_on(At::Over(1), after, "writes the user's record")
    }
}
