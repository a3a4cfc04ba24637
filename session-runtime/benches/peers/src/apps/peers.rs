//! The peers that build beside this library.

use std::future::{Future, ready};

use axum_session::DatabasePool;
use serde::{Serialize, de::DeserializeOwned};

use super::routes::{Handle, tower_sessions};

tower_sessions!(tower_sessions);
tower_sessions!(tower_sessions_0_14);

impl<D: DatabasePool + Clone + std::fmt::Debug + Sync + Send + 'static> Handle
    for axum_session::Session<D>
{
    fn get<T: DeserializeOwned + Send>(
        &self,
        name: &str,
    ) -> impl Future<Output = Option<T>> + Send {
        ready(Self::get(self, name))
    }

    fn set(
        &self,
        name: &str,
        value: impl Serialize + Send + Sync,
    ) -> impl Future<Output = ()> + Send {
        Self::set(self, name, value);
        ready(())
    }

    fn take<T: DeserializeOwned + Send>(
        &self,
        name: &str,
    ) -> impl Future<Output = Option<T>> + Send {
        ready(self.get_remove(name))
    }

    fn renew(&self) -> impl Future<Output = ()> + Send {
        Self::renew(self);
        ready(())
    }
}
