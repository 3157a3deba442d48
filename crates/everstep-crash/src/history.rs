//! A history: the lives of one workload on one database, one after the other, until its runs are over.

use std::{fmt, path::Path};

use crate::{
    home::Template,
    life::{Death, Deed, Life, Place, remember},
    snapshot::Snapshot,
};

/// After the last deed everything must be over within so many lives: the first may hear of an error.
const UNDISTURBED_MAX: usize = 4;

/// What happens in a history: in each life these deeds, then nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) workload: String,
    pub(crate) lives: Vec<Vec<Deed>>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.workload)?;
        for life in &self.lives {
            let deeds: Vec<_> = life.iter().map(ToString::to_string).collect();
            write!(f, "/{}", deeds.join(","))?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Plan, String> {
        let (workload, lives) = text.split_once('/').unwrap_or((text, ""));
        let life = |life: &str| life.split(',').filter(|deed| !deed.is_empty()).map(str::parse).collect();
        let lives = lives.split('/').map(life).collect::<Result<_, String>>()?;
        Ok(Plan { workload: workload.to_string(), lives })
    }
}

/// What happened.
pub(crate) struct History {
    pub(crate) plan: Plan,
    /// Each life, and what was durable after it.
    pub(crate) lives: Vec<(Life, Snapshot)>,
}

impl History {
    /// Plays a plan in a home of its own, which begins as a copy of `template`. `log` hears of the failpoints that the last
    /// planned life passes.
    pub(crate) fn play(plan: &Plan, template: &Template, log: Option<&Path>) -> History {
        let home = template.home();
        let place = Place { workload: &plan.workload, home: &home };
        let mut lives = Vec::new();
        for n in 0..plan.lives.len() + UNDISTURBED_MAX {
            let deeds = plan.lives.get(n).map_or(&[][..], Vec::as_slice);
            let log = log.filter(|_| n + 1 == plan.lives.len());
            let life = place.live(deeds, log);
            remember(&home.seen(), &life.lines);
            let (snapshot, death) = (home.snapshot(), life.death);
            lives.push((life, snapshot));
            if matches!(death, Death::AllOver | Death::Hung) {
                break;
            }
        }
        History { plan: plan.clone(), lives }
    }

    /// Whether the planned lives ended as planned: killed, or whatever follows from a failpoint that failed.
    pub(crate) fn kills(&self) -> usize {
        self.lives.iter().filter(|(life, _)| life.death == Death::Killed).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_is_written() {
        for text in ["random/turn.sent:3:kill/write:7:syscall", "parallel/results:1:leave,beat.sent:1:kill"] {
            assert_eq!(text.parse::<Plan>().map(|plan| plan.to_string()), Ok(text.to_string()));
        }
    }
}
