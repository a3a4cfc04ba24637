//! Writing what is pending: of the browser's session, and of the user who is logged in.

use super::part::Part;
use super::state::is_fact;
use super::{Request, Saved};
use crate::commit::{self, Commit, Outcome, Pending, Policy};
use crate::error::Error;
use crate::id::SessionId;
use crate::key::Key;

impl Request {
    /// Commits what is pending. What can be refused goes first, so that nothing is written then. Whoever calls it
    /// holds the gate.
    pub(super) async fn write(&self, successor: Option<&SessionId>) -> Result<Saved, Error> {
        let checked = self.account_mut(|account| account.check_sizes(&self.config));
        checked.unwrap_or(Ok(()))?;
        let saved = self.write_session(successor).await?;
        let credited = self.write_account().await?;
        Ok(saved.or(credited))
    }

    async fn write_session(&self, successor: Option<&SessionId>) -> Result<Saved, Error> {
        let settled = self.settle_doubt().await?;
        let (batch, policy, presented, barred) = {
            let mut state = self.state();
            let batch = state.session.batch();
            let policy = state.policy(&self.config);
            (batch, policy, state.presents, state.barred.is_some())
        };
        match batch.stored {
            _ if barred => Ok(Saved::Ended),
            Some((key, record)) => {
                let commit = Commit {
                    config: &self.config,
                    policy,
                    key,
                    record,
                    pending: batch.pending,
                    successor: successor.map(Key::from),
                    presented,
                    asked: None,
                };
                Ok(self.run_commit(commit, successor).await?.or(settled))
            }
            None if batch.pending.iter().all(is_fact) => Ok(Saved::Unchanged),
            None => self.create(batch.pending).await,
        }
    }

    async fn create(&self, mut pending: Vec<Pending>) -> Result<Saved, Error> {
        let policy = {
            let state = self.state();
            let client = state.client.as_ref();
            pending.extend(
                client
                    .into_iter()
                    .flat_map(|client| client.facts(&self.config)),
            );
            state.policy(&self.config)
        };
        let (id, key, record) = commit::create(&self.config, policy, &pending, None, None).await?;
        let mut state = self.state();
        state.issue(id);
        let now = self.config.now();
        state.session.committed(key, record, None, now)?;
        Ok(Saved::Written)
    }

    /// Asks once more for what an earlier commit of this request asked for, if that had no answer: what is
    /// pending is on top of it, if it happened.
    pub(super) async fn settle_doubt(&self) -> Result<Saved, Error> {
        let (doubt, policy, presented) = {
            let mut state = self.state();
            let policy = state.policy(&self.config);
            (state.session.doubt.take(), policy, state.presents)
        };
        match doubt {
            Some((doubt, issued)) => {
                let commit = doubt.resume(&self.config, policy, presented);
                self.run_commit(commit, issued.as_ref()).await
            }
            None => Ok(Saved::Unchanged),
        }
    }

    async fn run_commit(
        &self,
        commit: Commit<'_>,
        issued: Option<&SessionId>,
    ) -> Result<Saved, Error> {
        match Box::new(commit).run().await {
            Ok(outcome) => self
                .state()
                .committed(outcome, issued.copied(), self.config.now()),
            Err(failure) => {
                self.state().session.doubt = failure.doubt.map(|doubt| (doubt, issued.copied()));
                Err(failure.error)
            }
        }
    }

    /// Commits what follows the user: what is in doubt first, then what is pending.
    pub(super) async fn write_account(&self) -> Result<Saved, Error> {
        let doubt = self.account_mut(|account| account.doubt.take()).flatten();
        let settled = match doubt {
            Some((doubt, _)) => {
                let policy = Policy::OF_ACCOUNTS;
                self.run_credit(doubt.resume(&self.config, policy, false))
                    .await?
            }
            None => Saved::Unchanged,
        };
        let Some(batch) = self
            .account_mut(Part::batch)
            .filter(|batch| !batch.pending.is_empty())
        else {
            return Ok(settled);
        };
        let Some((key, record)) = batch.stored else {
            return self.state().credited(Outcome::Gone, self.config.now());
        };
        let commit = Commit::to_account(&self.config, key, record, batch.pending);
        Ok(self.run_credit(commit).await?.or(settled))
    }

    fn account_mut<T>(&self, get: impl FnOnce(&mut Part) -> T) -> Option<T> {
        let mut state = self.state();
        let barred = state.barred.is_some();
        state.account.as_mut().filter(|_| !barred).map(get)
    }

    async fn run_credit(&self, commit: Commit<'_>) -> Result<Saved, Error> {
        match Box::new(commit).run().await {
            Ok(outcome) => self.state().credited(outcome, self.config.now()),
            Err(failure) => {
                let doubt = failure.doubt.map(|doubt| (doubt, None));
                self.account_mut(|account| account.doubt = doubt);
                Err(failure.error)
            }
        }
    }
}
