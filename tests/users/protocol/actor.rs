//! Those who act, one step at a time.

use super::job::Job;
use super::login::Login;
use super::logout::Logout;
use super::request::Request;
use super::revoke::Revoke;
use super::rules::Rules;
use super::world::World;

/// What may come next: who acts as they are then, the world, and what it was.
pub(crate) type Steps<A> = Vec<(A, World, &'static str)>;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Actor {
    Job(Job),
    Login(Login),
    Logout(Logout),
    Request(Request),
    Revoke(Revoke),
}

impl Actor {
    pub(crate) fn step(&self, world: &World, rules: Rules) -> Steps<Self> {
        match self {
            Self::Job(job) => wrap(job.step(world, rules), Self::Job),
            Self::Login(login) => wrap(login.step(world, rules), Self::Login),
            Self::Logout(logout) => wrap(logout.step(world, rules), Self::Logout),
            Self::Request(request) => wrap(request.step(world, rules), Self::Request),
            Self::Revoke(revoke) => wrap(revoke.step(world, rules), Self::Revoke),
        }
    }

    /// Returns `true` if it is not amid anything.
    pub(crate) fn idle(&self) -> bool {
        match self {
            Self::Job(job) => job.idle(),
            Self::Login(login) => login.idle(),
            Self::Logout(logout) => logout.idle(),
            Self::Request(request) => request.idle(),
            Self::Revoke(revoke) => revoke.idle(),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Job(_) => "job",
            Self::Login(_) => "login",
            Self::Logout(_) => "logout",
            Self::Request(_) => "request",
            Self::Revoke(_) => "revocation",
        }
    }
}

/// Lets an actor go on alone until it is over, and returns it with the world that it leaves.
pub(crate) fn alone(actor: Actor, world: &World, rules: Rules) -> (Actor, World) {
    let (mut actor, mut world) = (actor, world.clone());
    while let Some((next, after, _)) = actor.step(&world, rules).into_iter().next() {
        (actor, world) = (next, after);
    }
    (actor, world)
}

fn wrap<A>(steps: Steps<A>, with: impl Fn(A) -> Actor) -> Steps<Actor> {
    steps
        .into_iter()
        .map(|(actor, world, what)| (with(actor), world, what))
        .collect()
}
