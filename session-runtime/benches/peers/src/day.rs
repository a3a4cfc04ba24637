//! A day of a shop: what its requests make of the store and of the network, with each library.
//!
//! The same requests in the same order for each, drawn from a seed: of a hundred moments of a visitor
//!
//! | moments | what happens |
//! |--:|---|
//! | 35 | they look at a page, which shows how much is in the cart |
//! | 25 | a page asks in the background if there is news |
//! | 15 | a route is asked that has no use for a session |
//! | 15 | they put something into the cart |
//! | 5 | they send a form, which redirects to a page with a notice |
//! | 3 | two tabs put something into the cart at once, by two instances |
//! | 2 | they log in |

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use http::header::{COOKIE, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, Request};
use tokio::join;

use crate::apps::{self, AXUM_SESSION, CACHED, OURS, TOWER};
use crate::client::{AGENT, exchange};
use crate::measure::{head, print};
use crate::redis_server::{RedisServer, Traffic};
use crate::serve::runtime;

const REQUESTS: usize = 100_000;
const VISITORS: usize = 1_000;
const SEED: u64 = 20_261_129;

/// A browser, and what the app has told it.
#[derive(Default)]
struct Visitor {
    cookies: BTreeMap<String, String>,
    /// Things that the app says are in the cart.
    put: usize,
}

impl Visitor {
    fn request(&self, path: &str) -> Request<Body> {
        let mut request = Request::get(path).header(USER_AGENT, AGENT);
        if !self.cookies.is_empty() {
            let pairs = self.cookies.iter();
            let pairs: Vec<String> = pairs
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            request = request.header(COOKIE, pairs.join("; "));
        }
        request.body(Body::empty()).expect("a request")
    }

    /// Takes the cookies of an answer; returns their size in bytes.
    fn take(&mut self, headers: &HeaderMap) -> usize {
        let mut size = 0;
        for set in headers.get_all(SET_COOKIE) {
            let set = set.to_str().expect("a cookie is ASCII");
            let pair = set.split(';').next().and_then(|pair| pair.split_once('='));
            let (name, value) = pair.expect("a name and a value");
            self.cookies.insert(name.to_owned(), value.to_owned());
            size += set.len();
        }
        size
    }
}

/// Requests of all visitors to two instances, and what came of them.
struct Day {
    instances: [Router; 2],
    visitors: Vec<Visitor>,
    random: u64,
    requests: usize,
    set_cookie: usize,
}

impl Day {
    /// Draws a number below `limit`, by splitmix64.
    fn draw(&mut self, limit: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    async fn ask(&mut self, visitor: usize, path: &str) {
        let instance = self.instances[self.requests % 2].clone();
        let request = self.visitors[visitor].request(path);
        let (_, headers) = exchange(instance, request).await;
        self.answered(visitor, &headers);
    }

    fn answered(&mut self, visitor: usize, headers: &HeaderMap) {
        self.requests += 1;
        self.set_cookie += self.visitors[visitor].take(headers);
    }

    async fn moment(&mut self) {
        let visitor = self.draw(VISITORS);
        match self.draw(100) {
            0..35 => self.ask(visitor, "/cart").await,
            35..60 => self.ask(visitor, "/read").await,
            60..75 => self.ask(visitor, "/untouched").await,
            75..90 => {
                self.ask(visitor, "/add").await;
                self.visitors[visitor].put += 1;
            }
            90..95 => {
                self.ask(visitor, "/notify").await;
                self.ask(visitor, "/notice").await;
            }
            95..98 => {
                let [one, other] = self.instances.clone();
                let request = || self.visitors[visitor].request("/add");
                let (one, other) = (exchange(one, request()), exchange(other, request()));
                let ((_, one), (_, other)) = join!(one, other);
                self.answered(visitor, &one);
                self.answered(visitor, &other);
                self.visitors[visitor].put += 2;
            }
            _ => self.ask(visitor, &format!("/login?{visitor}")).await,
        }
    }
}

pub(crate) fn run() {
    println!(
        "\n### A day of a shop, on Redis\n\n{REQUESTS} requests of {VISITORS} visitors, seed {SEED}."
    );
    head(&[
        "",
        "commands a request",
        "bytes to Redis a request",
        "bytes from Redis a request",
        "bytes of `Set-Cookie` a request",
        "lost of what was put into carts",
    ]);
    for contender in [OURS, CACHED, TOWER, AXUM_SESSION] {
        // One each: two of them share their keys.
        let Some(redis) = RedisServer::start() else {
            return;
        };
        let runtime = runtime();
        let mut day = runtime.block_on(async {
            let mut day = Day {
                instances: [
                    apps::app(contender, &redis.url()).await,
                    apps::app(contender, &redis.url()).await,
                ],
                visitors: Vec::new(),
                random: SEED,
                requests: 0,
                set_cookie: 0,
            };
            for visitor in 0..VISITORS {
                day.visitors.push(Visitor::default());
                day.ask(visitor, "/fill?9").await;
            }
            (day.requests, day.set_cookie) = (0, 0);
            day
        });
        let traffic = redis.traffic(REQUESTS, || {
            runtime.block_on(async {
                while day.requests < REQUESTS {
                    day.moment().await;
                }
            });
        });
        let (put, there) = runtime.block_on(carts(contender, &redis.url(), &day));
        let Traffic {
            commands,
            received,
            sent,
        } = traffic;
        print(&[
            contender.to_owned(),
            commands,
            format!("{received:.0}"),
            format!("{sent:.0}"),
            format!("{:.0}", day.set_cookie as f64 / day.requests as f64),
            format!("{} of {put}", put - there),
        ]);
    }
}

/// Returns how much was put into all carts, and how much another instance, which has nothing in its memory, finds there.
async fn carts(contender: &str, place: &str, day: &Day) -> (usize, usize) {
    let fresh = apps::app(contender, place).await;
    let (mut put, mut there) = (0, 0);
    for visitor in &day.visitors {
        let (cart, _) = exchange(fresh.clone(), visitor.request("/cart")).await;
        put += visitor.put;
        there += cart.parse::<usize>().expect("a number");
    }
    (put, there)
}
