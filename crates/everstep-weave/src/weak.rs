//! Ways of weakening the sources, each one a mistake that somebody could make, and the play that must find it.

/// One of them.
#[derive(Debug)]
pub struct Weak {
    /// Its name, also of its module.
    pub name: &'static str,
    /// The play that finds it.
    pub found_by: &'static str,
    /// In which file what becomes what; each `what` is there exactly once.
    pub edits: &'static [(&'static str, &'static str, &'static str)],
}

/// All of them.
pub const ALL: &[Weak] = &[
    Weak {
        name: "queue_wakes_for_what_was_there_before",
        found_by: "queue: everything is taken",
        edits: &[(
            "src/queue.rs",
            "        state.ops.push(op);\n        let wake = state.wanted != 0 && state.ops.len() >= state.wanted;\n",
            "        let wake = state.wanted != 0 && state.ops.len() >= state.wanted;\n        state.ops.push(op);\n",
        )],
    },
    Weak {
        name: "queue_notifies_before_it_stops",
        found_by: "queue: everything is taken",
        edits: &[(
            "src/queue.rs",
            "        self.lock().stop = true;\n        self.more.notify_one();\n",
            "        self.more.notify_one();\n        self.lock().stop = true;\n",
        )],
    },
    Weak {
        name: "queue_notifies_before_it_pushes",
        found_by: "queue: everything is taken",
        edits: &[
            (
                "src/queue.rs",
                "        let mut state = self.lock();\n        if state.ended {\n",
                "        self.more.notify_one();\n        let mut state = self.lock();\n        if state.ended {\n",
            ),
            ("src/queue.rs", "        if wake {\n            self.more.notify_one();\n        }\n", ""),
        ],
    },
    Weak {
        name: "queue_ends_after_it_emptied",
        found_by: "queue: who pushes at the end is answered",
        edits: &[
            (
                "src/queue.rs",
                "        drop(state);\n        drop(left);\n",
                "        drop(state);\n        drop(left);\n        self.lock().ended = true;\n",
            ),
            ("src/queue.rs", "        state.ended = true;\n        let left", "        let left"),
        ],
    },
    Weak {
        name: "queue_waits_for_two_impatient_ones",
        found_by: "queue: clients do not wait for space",
        edits: &[(
            "src/queue.rs",
            "self.wait(state, queued + 1, wait)",
            "self.wait(state, queued + 2, wait)",
        )],
    },
    Weak {
        name: "queue_impatient_takes_all",
        found_by: "queue: clients do not wait for space",
        edits: &[(
            "src/queue.rs",
            "state.ops.extract_if(.., |op| op.weight() == Weight::Client).collect()",
            "state.ops.extract_if(.., |_| true).collect()",
        )],
    },
    Weak {
        name: "client_looks_before_it_listens",
        found_by: "bell: an end is heard",
        edits: &[(
            "plays/bell.rs",
            "    let mut listener = bell.listen(RUN);\n    let mut over = row.is_over();\n",
            "    let mut over = row.is_over();\n    let mut listener = bell.listen(RUN);\n",
        )],
    },
    Weak {
        name: "client_looks_before_it_hears_of_others",
        found_by: "bell: an end made by others is heard",
        edits: &[(
            "plays/bell.rs",
            "    let mut listener = bell.listen(RUN);\n    let mut over = row.is_over();\n",
            "    let mut over = row.is_over();\n    let mut listener = bell.listen(RUN);\n",
        )],
    },
    Weak {
        name: "listener_that_leaves_takes_all_with_it",
        found_by: "bell: an end is heard",
        edits: &[("store/bell.rs", "all.retain(|(number, _)| *number != self.number);", "all.clear();")],
    },
    Weak {
        name: "end_is_rung_before_it_can_be_read",
        found_by: "bell: an end is heard",
        edits: &[(
            "plays/bell.rs",
            "    row.end();\n    ring(&bell);\n",
            "    ring(&bell);\n    row.end();\n",
        )],
    },
    Weak {
        name: "reader_looks_before_it_listens",
        found_by: "bell: what a run says is read",
        edits: &[(
            "plays/bell.rs",
            "        let mut reading = bell.read(RUN);\n        let new = said.claim();\n",
            "        let new = said.claim();\n        let mut reading = bell.read(RUN);\n",
        )],
    },
    Weak {
        name: "reader_that_leaves_takes_all_with_it",
        found_by: "bell: what a run says is read",
        edits: &[("store/bell.rs", "        if said.readers == 0 {\n", "        if said.readers < 2 {\n")],
    },
    Weak {
        name: "what_is_said_is_rung_before_it_can_be_read",
        found_by: "bell: what a run says is read",
        edits: &[(
            "plays/bell.rs",
            "        said.become_due();\n        bell.ring_said(RUN);\n",
            "        bell.ring_said(RUN);\n        said.become_due();\n",
        )],
    },
    Weak {
        name: "claimer_forgets_after_it_looked",
        found_by: "bell: what becomes claimable is claimed",
        edits: &[(
            "plays/bell.rs",
            "        claimable.mark_unchanged();\n        taken += row.claim();\n",
            "        taken += row.claim();\n        claimable.mark_unchanged();\n",
        )],
    },
    Weak {
        name: "wakes_end_in_two_steps",
        found_by: "wakes: every driver is woken",
        edits: &[(
            "engine/wakes.rs",
            "        state.passed_on = false;\n        let left = std::mem::take(&mut state.gathered);\n        drop(state);\n        left.into_iter().for_each(Waker::wake);\n",
            "        let left = std::mem::take(&mut state.gathered);\n        drop(state);\n        left.into_iter().for_each(Waker::wake);\n        self.0.state().passed_on = false;\n",
        )],
    },
    Weak {
        name: "wakes_are_pushed_after_another_look",
        found_by: "wakes: every driver is woken",
        edits: &[(
            "engine/wakes.rs",
            "            return state.gathered.push(waker);\n",
            "            drop(state);\n            return self.state().gathered.push(waker);\n",
        )],
    },
    Weak {
        name: "settled_counts_before_its_trouble",
        found_by: "news: nothing refused is told",
        edits: &[
            (
                "driver/news.rs",
                "        let durable = trouble.is_none();\n",
                "        let durable = trouble.is_none();\n        self.settled.fetch_add(1, Ordering::AcqRel);\n",
            ),
            (
                "driver/news.rs",
                "            self.troubled.store(true, Ordering::Release);\n        }\n        self.settled.fetch_add(1, Ordering::AcqRel);\n",
                "            self.troubled.store(true, Ordering::Release);\n        }\n",
            ),
        ],
    },
    Weak {
        name: "driver_counts_after_it_looked_for_trouble",
        found_by: "news: nothing refused is told",
        edits: &[(
            "plays/driver.rs",
            "    let settled = news.settled_turns();\n    let trouble = news.take_trouble();\n",
            "    let trouble = news.take_trouble();\n    let settled = news.settled_turns();\n",
        )],
    },
    Weak {
        name: "driver_looks_before_it_registers",
        found_by: "news: no nudge is missed",
        edits: &[(
            "plays/driver.rs",
            "    root.register_task(waker);\n    let nudged = news.take_nudge();\n",
            "    let nudged = news.take_nudge();\n    root.register_task(waker);\n",
        )],
    },
    Weak {
        name: "nudge_wakes_before_it_is_there",
        found_by: "news: no nudge is missed",
        edits: &[(
            "driver/news.rs",
            "        self.nudged.store(true, Ordering::Release);\n        root.wake_task();\n",
            "        root.wake_task();\n        self.nudged.store(true, Ordering::Release);\n",
        )],
    },
    Weak {
        name: "residents_forget_before_they_tell",
        found_by: "residents: a message finds its run",
        edits: &[(
            "engine/residents.rs",
            "        core.nudge_if(state.nudged.remove(&run));\n        state.arrived(1);\n",
            "        state.arrived(1);\n        core.nudge_if(state.nudged.remove(&run));\n",
        )],
    },
    Weak {
        name: "residents_do_not_remember_who_is_coming",
        found_by: "residents: a message finds its run",
        edits: &[(
            "engine/residents.rs",
            "                None if state.coming > 0 => drop(state.nudged.insert(run)),\n",
            "",
        )],
    },
    Weak {
        name: "residents_do_not_tell_the_last_to_come",
        found_by: "residents: whoever is here or comes hears of the end",
        edits: &[(
            "engine/residents.rs",
            "        if let Some(at_once) = state.leaving {\n            core.stop(at_once);\n        }\n",
            "",
        )],
    },
    Weak {
        name: "keys_are_counted_in_two_steps",
        found_by: "scope: every claim has its own key",
        edits: &[(
            "src/scope.rs",
            "        let key = names.claim(index, &self.path, name);\n        Ok(",
            "        let n = names.counts[index].claimed;\n        drop(names);\n        let mut names = self.names();\n        names.counts[index].claimed = n;\n        let key = names.claim(index, &self.path, name);\n        Ok(",
        )],
    },
];
