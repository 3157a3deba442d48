//! Points in time as filters write them: from now, or by the calendar.

use crate::time::Timestamp;

/// The point of a word: `-15m`, `2026-01-31`, `2026-01-31T10:00:00Z`; `None` if it is none.
pub(super) fn point(word: &str, now: Timestamp) -> Option<Timestamp> {
    relative(word, now).or_else(|| absolute(word))
}

fn relative(word: &str, now: Timestamp) -> Option<Timestamp> {
    let unit = match word.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let count: i64 = word[..word.len() - 1].parse().ok()?;
    Some(Timestamp(now.0.checked_add(count.checked_mul(unit * 1_000_000)?)?))
}

fn absolute(word: &str) -> Option<Timestamp> {
    let (date, time) = word.split_once('T').unwrap_or((word, "00:00:00Z"));
    let numbers = |text: &str, sign: char| -> Option<[i64; 3]> {
        let parts: Vec<i64> = text.split(sign).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time.strip_suffix('Z')?, ':')?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let in_month = lengths.get(usize::try_from(month - 1).ok()?)?;
    let sound = (1970..10_000).contains(&year)
        && (1..=*in_month).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    if !sound {
        return None;
    }
    let before = year - 1;
    let leap_days = |y: i64| y / 4 - y / 100 + y / 400;
    let days = (year - 1970) * 365 + leap_days(before) - leap_days(1969)
        + lengths[..(month - 1) as usize].iter().sum::<i64>()
        + day
        - 1;
    Some(Timestamp((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The point that `text` names, in seconds.
    fn seconds(text: &str) -> Option<i64> {
        let Timestamp(at) = point(text, Timestamp(86_400_000_000 * 30))?;
        assert_eq!(at % 1_000_000, 0);
        Some(at / 1_000_000)
    }

    #[test]
    fn times_count_from_now_in_every_unit() {
        let ago = |text| seconds(text).map(|at| 86_400 * 30 - at);
        for (text, seconds) in [
            ("-7s", 7),
            ("-7m", 7 * 60),
            ("-7h", 7 * 3600),
            ("-2d", 2 * 86_400),
            ("-2w", 14 * 86_400),
            ("3h", -3 * 3600),
        ] {
            assert_eq!(ago(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("1972-03-01", Some(790 * 86_400)),
            ("2000-02-29", Some(951_782_400)),
            ("2026-01-31T23:59:59Z", Some(1_769_903_999)),
            ("2100-02-28", Some(4_107_456_000)),
            ("2100-02-29", None),
            ("2100-03-01", Some(4_107_542_400)),
            ("2400-02-29", Some(13_574_563_200)),
            ("2401-01-01", Some(13_601_088_000)),
            ("9999-12-31", Some(253_402_214_400)),
            ("10000-01-01", None),
            ("1969-12-31", None),
            ("2026-13-01", None),
            ("2026-00-01", None),
            ("2026-04-31", None),
            ("2026-04-00", None),
            ("2026-01-31T24:00:00Z", None),
            ("2026-01-31T00:60:00Z", None),
            ("2026-01-31T00:00:60Z", None),
            ("2026-01-31T00:00:00", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    /// Was a panic of debug builds: the date was counted before it was judged.
    #[test]
    fn numbers_beyond_any_date_are_no_time() {
        let most = i64::MAX;
        for text in [format!("{most}-01-01"), format!("2026-01-{most}"), format!("2026-01-01T{most}:00:00Z")]
        {
            assert_eq!(seconds(&text), None, "{text}");
        }
    }
}
