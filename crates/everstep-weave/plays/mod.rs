pub(crate) const ALL: &[(&str, everstep_weave::Play)] = &[
    ("queue: everything is taken", queue::everything_is_taken),
    ("queue: who pushes at the end is answered", queue::who_pushes_at_the_end_is_answered),
    ("queue: clients do not wait for space", queue::clients_do_not_wait_for_space),
    ("bell: an end is heard", bell::an_end_is_heard),
    ("bell: an end made by others is heard", bell::an_end_made_by_others_is_heard),
    ("bell: what becomes claimable is claimed", bell::what_becomes_claimable_is_claimed),
    ("wakes: every driver is woken", wakes::every_driver_is_woken),
    ("news: nothing refused is told", news::nothing_refused_is_told),
    ("news: no nudge is missed", news::no_nudge_is_missed),
    ("residents: a message finds its run", residents::a_message_finds_its_run),
    ("residents: whoever is here or comes hears of the end", residents::all_hear_of_the_end),
    ("scope: every claim has its own key", scope::every_claim_has_its_own_key),
];
