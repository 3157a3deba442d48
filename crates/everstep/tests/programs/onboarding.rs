//! The README's program: functions with errors of their own, two steps at once, a deadline, a day's pause.

use everstep::{Ctx, Result, Retry, StepCtx, Workflow, days};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NewHire {
    name: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    id: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Welcome {
    laptop: String,
    access: String,
    approved: bool,
}

/// A department with an error type of its own.
mod hr {
    use super::{NewHire, Record};

    #[derive(Debug)]
    pub struct Unavailable(pub u32);

    impl std::fmt::Display for Unavailable {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "hr does not answer call {}", self.0)
        }
    }
    impl std::error::Error for Unavailable {}

    pub async fn create(hire: &NewHire, call: u32) -> Result<Record, Unavailable> {
        if call < 3 {
            return Err(Unavailable(call));
        }
        Ok(Record { id: hire.name.len() as u64 })
    }
}

/// Departments that speak everstep's `Result`.
mod it {
    use super::{NewHire, Record};
    use everstep::Result;
    use std::time::Duration;

    pub async fn laptop(record: &Record) -> Result<String> {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok(format!("laptop-{}", record.id))
    }

    pub async fn access(record: &Record, key: &str) -> Result<String> {
        assert_eq!(key.len(), 32);
        Ok(format!("badge-{}", record.id))
    }

    pub async fn ask_manager(hire: &NewHire) -> Result<bool> {
        match hire.name.as_str() {
            "Ada" => Ok(true),
            _ => std::future::pending().await,
        }
    }

    pub async fn welcome(hire: &NewHire) -> Result<()> {
        assert!(!hire.name.is_empty());
        Ok(())
    }
}

const ONBOARD: Workflow<NewHire, Welcome> = Workflow::new("onboard");

async fn onboard(ctx: Ctx, hire: NewHire) -> Result<Welcome> {
    let record = ctx
        .step("create_record", async |s: StepCtx| Ok(hr::create(&hire, s.attempt()).await?))
        .retry(Retry::exponential(5))
        .await?;
    let (laptop, access) = everstep::try_join!(
        ctx.step("provision_laptop", || it::laptop(&record)),
        ctx.step("provision_access", async |s: StepCtx| it::access(&record, s.idempotency_key()).await),
    )?;
    let answer = ctx.step("ask_manager", || it::ask_manager(&hire));
    let approved = ctx.timeout(days(3), answer).await?.unwrap_or(false);
    ctx.sleep(days(1)).await;
    ctx.step("send_welcome_email", || it::welcome(&hire)).await?;
    Ok(Welcome { laptop, access, approved })
}

#[test]
fn a_hire_is_welcomed() -> Result<(), Box<dyn std::error::Error>> {
    for (name, approved) in [("Ada", true), ("Grace", false)] {
        let hire = NewHire { name: name.to_string() };
        let welcome = crate::play(|builder| builder.register(ONBOARD, onboard), ONBOARD, hire)?;
        let id = name.len();
        let expected = Welcome { laptop: format!("laptop-{id}"), access: format!("badge-{id}"), approved };
        assert_eq!(welcome, expected);
    }
    Ok(())
}
