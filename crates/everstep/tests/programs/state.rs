//! Dependencies: a third argument from `.state(app)`, in all the ways in which a program may hand them over.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use everstep::{BoxFuture, Ctx, Data, Engine, Result, Workflow, store::Memory};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    id: String,
    cents: u64,
}

/// What the application has once, shared by all runs.
#[derive(Clone)]
struct App {
    fee: u64,
    mailer: Arc<dyn Mailer>,
}

trait Mailer: Send + Sync {
    fn send<'a>(&'a self, to: &'a str) -> BoxFuture<'a, std::io::Result<u64>>;
}

/// A test's mailer: counts what it sends.
#[derive(Default)]
struct Fake(AtomicU64);

impl Mailer for Fake {
    fn send<'a>(&'a self, to: &'a str) -> BoxFuture<'a, std::io::Result<u64>> {
        Box::pin(async move {
            assert!(!to.is_empty());
            Ok(self.0.fetch_add(1, Ordering::SeqCst) + 1)
        })
    }
}

impl App {
    async fn charge(&self, order: &Order) -> std::io::Result<u64> {
        Ok(order.cents + self.fee)
    }

    /// A workflow may be a method.
    async fn refund(self, ctx: Ctx, order: Order) -> Result<u64> {
        let paid = ctx.step("charge", async || Ok(self.charge(&order).await?)).await?;
        ctx.step("refund", async || Ok(paid - self.fee)).await
    }
}

const PAY: Workflow<Order, u64> = Workflow::new("pay");
const REFUND: Workflow<Order, u64> = Workflow::new("refund");
const INLINE: Workflow<Order, u64> = Workflow::new("inline");
const CAPTURED: Workflow<Order, u64> = Workflow::new("captured");
const HELLO: Workflow<String, String> = Workflow::new("hello");
const COUNT: Workflow<Vec<u8>, usize> = Workflow::new("count");

async fn pay(ctx: Ctx, order: Order, app: App) -> Result<u64> {
    let paid = ctx.step("charge", async || Ok(app.charge(&order).await?)).await?;
    receipt(&ctx, &app, &order.id).await?;
    Ok(paid)
}

/// A helper is an ordinary function: whatever takes a `Ctx` returns `everstep::Result`.
async fn receipt(ctx: &Ctx, app: &App, to: &str) -> Result<u64> {
    ctx.step("mail", async || Ok(app.mailer.send(to).await?)).await
}

async fn hello(_: Ctx, name: String) -> Result<String> {
    Ok(format!("hello {name}"))
}

/// A workflow that is generic over its data.
async fn count<T: Data + Sync>(ctx: Ctx, items: Vec<T>) -> Result<usize> {
    ctx.step("count", async || Ok(items.len())).await
}

fn order() -> Order {
    Order { id: "o-1".to_string(), cents: 300 }
}

#[test]
fn every_way_to_hand_over_an_app_works() -> anyhow::Result<()> {
    let fake = Arc::new(Fake::default());
    let app = App { fee: 7, mailer: fake.clone() };
    let register = |builder: everstep::Builder| {
        let captured = app.clone();
        builder
            .register(HELLO, hello)
            .register(CAPTURED, move |ctx, order| pay(ctx, order, captured.clone()))
            .state(app.clone())
            .register(PAY, pay)
            .register(REFUND, |ctx, order, app: App| app.refund(ctx, order))
            .register(INLINE, async |ctx: Ctx, order: Order, app: App| {
                ctx.step("charge", async || Ok(app.charge(&order).await?)).await
            })
            // Another state for those that come after.
            .state(())
            .register(COUNT, |ctx, items, ()| count(ctx, items))
    };
    assert_eq!(crate::play(register, PAY, order())?, 307);
    assert_eq!(crate::play(register, REFUND, order())?, 300);
    assert_eq!(crate::play(register, INLINE, order())?, 307);
    assert_eq!(crate::play(register, CAPTURED, order())?, 307);
    assert_eq!(crate::play(register, HELLO, "Ada".to_string())?, "hello Ada");
    assert_eq!(crate::play(register, COUNT, vec![1, 2, 3])?, 3);
    assert_eq!(fake.0.load(Ordering::SeqCst), 2, "one mail for each of the two runs that send one");
    Ok(())
}

/// An engine as most programs have it: on the runtime's own time, shared by the tasks of a server.
#[tokio::test]
async fn an_engine_is_shared_by_the_tasks_of_a_server() -> anyhow::Result<()> {
    let app = App { fee: 1, mailer: Arc::new(Fake::default()) };
    let engine = Arc::new(Engine::builder(Memory::default()).state(app).register(PAY, pay).start().await?);
    let requests: Vec<_> = (0..20u64)
        .map(|n| {
            let engine = engine.clone();
            tokio::spawn(async move {
                engine.run(PAY, format!("o-{n}"), Order { id: "o".into(), cents: n }).await
            })
        })
        .collect();
    for (n, request) in requests.into_iter().enumerate() {
        assert_eq!(request.await??, n as u64 + 1);
    }
    Arc::into_inner(engine).expect("all tasks have ended").shutdown().await?;
    Ok(())
}
