//! What happens to machines, without any call of theirs: they die, stand still, leave in peace, have wrong clocks, run
//! into a full disk, and are woken for nothing.

use std::sync::Arc;

use crate::{
    fault::Fault,
    history::What,
    machine::Machine,
    opening::Over,
    world::{World, ms, nap},
};

/// Microseconds of five minutes: how wrong a clock gets.
const CLOCK_ERROR_MAX: u64 = 300_000_000;

/// Makes trouble for as long as the plan says.
pub async fn make(world: Arc<World>, machines: Vec<Arc<Machine>>) {
    let faults: Vec<Fault> = world.plan.faults.iter().copied().collect();
    if faults.contains(&Fault::Clock) {
        machines.iter().for_each(|machine| set_clock(&world, machine));
    }
    loop {
        nap(ms(world.below(4_000))).await;
        if world.is_calm() || faults.is_empty() {
            return;
        }
        let machine = &machines[world.below(machines.len() as u64) as usize];
        happens(&world, faults[world.below(faults.len() as u64) as usize], machine);
    }
}

fn happens(world: &Arc<World>, fault: Fault, machine: &Arc<Machine>) {
    let Some(up) = machine.up() else { return };
    match fault {
        Fault::Crash => up.opening.die(true),
        Fault::Shutdown => up.opening.ends(Over::Leave),
        Fault::Clock => set_clock(world, machine),
        Fault::Stop => {
            let longer = world.below(2) == 0;
            let lease = world.plan.lease_ms;
            let wait = if longer { lease + world.below(lease * 3) } else { 1 + world.below(lease) };
            tokio::spawn(stand_still(world.clone(), up, wait));
        }
        Fault::Full => {
            let world = world.clone();
            tokio::spawn(async move {
                world.saw(What::Fault(Fault::Full));
                world.set_full(true);
                nap(ms(1 + world.below(8_000))).await;
                world.set_full(false);
            });
        }
        Fault::Spurious => {
            world.saw(What::Fault(Fault::Spurious));
            let bell = up.opening.base.store().bell().clone();
            bell.ring_claimable();
            bell.ring_inbox();
            bell.ring_foreign();
            bell.ring_settled();
            (0..4).for_each(|_| up.process.rouse(world.below(1_000) as usize));
        }
        // These strike calls.
        Fault::Late | Fault::Lost | Fault::Doubled | Fault::Unknown | Fault::Refused => {}
    }
}

async fn stand_still(world: Arc<World>, up: crate::machine::Up, wait: u64) {
    if up.opening.is_dead() {
        return;
    }
    world.saw(What::Fault(Fault::Stop));
    world.saw(What::Stopped { worker: up.opening.worker(), goes_on: false });
    up.process.stop();
    nap(ms(wait)).await;
    up.process.resume();
    world.saw(What::Stopped { worker: up.opening.worker(), goes_on: true });
    up.opening.poke();
}

fn set_clock(world: &Arc<World>, machine: &Machine) {
    let error = world.below(2 * CLOCK_ERROR_MAX) as i64 - CLOCK_ERROR_MAX as i64;
    world.saw(What::Fault(Fault::Clock));
    machine.set_clock_error(error);
}
