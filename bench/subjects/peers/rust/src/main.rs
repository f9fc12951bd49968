//! A hand-written loop in Rust: rdkafka, serde, a fold, and one `unnest` upsert per batch.
//!
//! Arguments: bootstrap servers, topic, group, DSN of Postgres, records per batch, connections.
//! Each connection has a lane of its own, and a partition always has the same lane, so that the
//! order within a partition holds. Nothing else is guaranteed: librdkafka commits every second what
//! was read, whether it is written or not; an error ends the process.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::process;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{channel, Receiver, Sender};
use tokio_postgres::NoTls;

const STATEMENT: &str = "\
insert into sessions as t (id, app_id, last_seen, session_count, tags)
select i, a, l::timestamptz, s, g::jsonb
from unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[]) u(i, a, l, s, g)
on conflict (id) do update set
    app_id = excluded.app_id, last_seen = excluded.last_seen,
    session_count = t.session_count + excluded.session_count, tags = excluded.tags";
const POLL: Duration = Duration::from_millis(100);

type Failure = Box<dyn Error + Send + Sync>;

/// A record's value. It borrows from the batch: strings with escapes are refused.
#[derive(Deserialize)]
struct Session<'a> {
    id: i64,
    app_id: &'a str,
    last_seen: &'a str,
    session_count: i64,
    #[serde(borrow)]
    tags: &'a RawValue,
}

/// The values of many records in one piece of memory.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    fn add(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    /// One row per id, counts added, sorted by id.
    fn folded(&self) -> serde_json::Result<Vec<Session<'_>>> {
        let mut rows: HashMap<i64, Session> = HashMap::with_capacity(self.ends.len());
        let mut start = 0;
        for &end in &self.ends {
            let mut newer: Session = serde_json::from_slice(&self.bytes[start..end])?;
            if let Some(older) = rows.get(&newer.id) {
                newer.session_count += older.session_count;
            }
            rows.insert(newer.id, newer);
            start = end;
        }
        let mut sorted: Vec<Session> = rows.into_values().collect();
        sorted.sort_unstable_by_key(|row| row.id);
        Ok(sorted)
    }
}

/// Write the batches of one lane, one after the other, on a connection of its own.
async fn write(dsn: String, mut batches: Receiver<Batch>) -> Result<(), Failure> {
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await?;
    tokio::spawn(connection);
    let statement = client.prepare(STATEMENT).await?;
    while let Some(batch) = batches.recv().await {
        let rows = batch.folded()?;
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let apps: Vec<&str> = rows.iter().map(|row| row.app_id).collect();
        let seen: Vec<&str> = rows.iter().map(|row| row.last_seen).collect();
        let counts: Vec<i64> = rows.iter().map(|row| row.session_count).collect();
        let tags: Vec<&str> = rows.iter().map(|row| row.tags.get()).collect();
        client.execute(&statement, &[&ids, &apps, &seen, &counts, &tags]).await?;
    }
    Ok(())
}

/// Poll for ever; hand a lane's batch over when it is full, and all of them when nothing comes.
fn read(consumer: &BaseConsumer, lanes: &[Sender<Batch>], size: usize) -> Result<(), Failure> {
    let mut batches: Vec<Batch> = lanes.iter().map(|_| Batch::default()).collect();
    loop {
        if let Some(polled) = consumer.poll(POLL) {
            let message = polled?;
            let lane = message.partition() as usize % lanes.len();
            batches[lane].add(message.payload().unwrap_or_default());
            if batches[lane].ends.len() >= size {
                lanes[lane].blocking_send(std::mem::take(&mut batches[lane]))?;
            }
            continue;
        }
        for (batch, lane) in batches.iter_mut().zip(lanes) {
            if !batch.ends.is_empty() {
                lane.blocking_send(std::mem::take(batch))?;
            }
        }
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [bootstrap, topic, group, dsn, size, connections] = arguments.as_slice() else {
        return Err("usage: upserts BOOTSTRAP TOPIC GROUP DSN RECORDS CONNECTIONS".into());
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let lanes: Vec<Sender<Batch>> = (0..connections.parse()?)
        .map(|_| {
            // One place: the next batch is read while the last one is written.
            let (sender, receiver) = channel(1);
            let dsn = dsn.clone();
            runtime.spawn(async move {
                if let Err(problem) = write(dsn, receiver).await {
                    eprintln!("{problem}");
                    process::exit(1);
                }
            });
            sender
        })
        .collect();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("auto.commit.interval.ms", "1000")
        .set("fetch.message.max.bytes", "4194304")
        .create()?;
    consumer.subscribe(&[topic.as_str()])?;
    read(&consumer, &lanes, size.parse()?)
}
