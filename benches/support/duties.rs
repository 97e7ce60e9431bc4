//! Which of several nodes does what goes on behind their answers: records a plan, keeps the lists. Chance decides that, and
//! whoever asks one of them may notice, so a benchmark says which it was.

use secrecy::SecretString;

use super::cluster::Cluster;
use super::service::Service;
use super::settled::metric;

const RECORDED: &str = r#"portcullis_commands_total{command="continue_plan",outcome="changed"}"#;
/// Each list is kept by the node whose session holds its lock, as `src/projection/cursor/lock.sql` has it.
const KEEPERS: &str = "select c.name, a.application_name from projection.cursor c
       join pg_locks l on l.locktype = 'advisory' and l.granted and l.objsubid = 1
        and (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('portcullis: projection ' || c.schema_name, 0)
       join pg_stat_activity a on a.pid = l.pid
      order by c.name";

/// How many times this node has put a part of a plan into the log since it was started.
pub(crate) async fn recorded(service: &Service, token: &SecretString) -> anyhow::Result<u64> {
    // It is not counted before the first.
    Ok(metric(service, token, RECORDED).await?.unwrap_or_default())
}

/// The lists, and the node that keeps each, by the name with which it reaches the database. One whose keeper was killed just
/// now is not among them.
pub(crate) async fn keepers(cluster: &Cluster) -> anyhow::Result<String> {
    let rows = cluster.owner().await?.query(KEEPERS, &[]).await?;
    let one = |row: &tokio_postgres::Row| format!("{} by {}", row.get::<_, &str>(0), row.get::<_, &str>(1));
    Ok(rows.iter().map(one).collect::<Vec<_>>().join(", "))
}
