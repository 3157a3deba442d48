//! Servers that are not installed here.

use everstep_cluster::{Cluster, Mode, Settings};

/// One that the registry carries and distributions of today do not have by that number alone.
const OTHER: u32 = 17;

async fn version(cluster: &Cluster) -> u32 {
    let client = cluster.connect("postgres").await.expect("connects");
    let number: i32 = client
        .query_one("SELECT current_setting('server_version_num')::int", &[])
        .await
        .expect("says")
        .get(0);
    u32::try_from(number / 10_000).expect("is a version")
}

#[tokio::test]
async fn another_version_is_fetched_and_shared_beside_the_installed_one() {
    let (other, installed) = (Cluster::version(OTHER).expect("starts"), Cluster::shared().expect("starts"));
    for cluster in [other, installed] {
        assert_eq!(version(cluster).await, cluster.major());
        let database = cluster.database().await.expect("is made");
        database.connect().await.expect("connects");
    }
    assert_eq!(other.major(), OTHER);
    assert_ne!(other.socket(), installed.socket());
}

#[tokio::test]
async fn a_private_server_of_another_version_starts_after_each_end() {
    let cluster = Cluster::private(Settings { version: Some(OTHER), ..Settings::default() }).expect("starts");
    cluster.kill().expect("is killed");
    cluster.start().expect("starts again");
    cluster.stop(Mode::Immediate).expect("stops");
    cluster.start().expect("starts again");
    assert_eq!(version(&cluster).await, OTHER);
}
