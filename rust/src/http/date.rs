//! Moments as headers write them, in whole seconds of Unix time.

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Read an HTTP date in any of its three forms; `None` for what is none, or lies before 1970.
///
/// Source: RFC 9110, section 5.6.7.
pub(super) fn http(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    match words[..] {
        // Sun, 06 Nov 1994 08:49:37 GMT
        [_, day, month, year, time, "GMT" | "UTC"] if year.len() == 4 => unix(year, month, day, time),
        // Sunday, 06-Nov-94 08:49:37 GMT
        [_, date, time, "GMT" | "UTC"] => {
            let mut parts = date.split('-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            unix(&century(year)?, month, day, time)
        }
        // Sun Nov  6 08:49:37 1994
        [_, month, day, time, year] if year.len() == 4 => unix(year, month, day, time),
        _ => None,
    }
}

/// Read `1994-11-06T08:49:37Z`, with fractions and offsets; the fraction is left out.
///
/// Source: RFC 3339, section 5.6.
pub(super) fn rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let (time, zone) = rest.split_at_checked(8)?;
    let zone = zone.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let month = MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?)?;
    let seconds = unix(year, month, day, time)?;
    let offset = |zone: &str| Some(seconds_of(&format!("{zone}:00"))? as i64);
    let ahead = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        ("+", zone) => offset(zone)?,
        ("-", zone) => -offset(zone)?,
        _ => return None,
    };
    seconds.checked_add_signed(-ahead)
}

/// A year of two digits is the one nearest to 1970 to 2069.
fn century(year: &str) -> Option<String> {
    let two = year.parse::<u32>().ok().filter(|_| year.len() == 2)?;
    Some((if two < 70 { 2000 + two } else { 1900 + two }).to_string())
}

fn unix(year: &str, month: &str, day: &str, time: &str) -> Option<u64> {
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? as u64;
    let (year, day) = (year.parse::<u64>().ok()?, day.parse::<u64>().ok()?);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1 March of the year 0, in years that end with the leap day.
    let (from_march, of_year) = if month < 2 { (month + 10, year - 1) } else { (month - 2, year) };
    let days = of_year * 365 + of_year / 4 - of_year / 100 + of_year / 400 + (153 * from_march + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + seconds_of(time)?)
}

/// `08:49:37`, with a leap second's 60.
fn seconds_of(time: &str) -> Option<u64> {
    let mut parts = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    (parts.next().is_none() && hours < 24 && minutes < 60 && seconds <= 60)
        .then_some(hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_of_a_date_are_the_same_moment() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(http(text), Some(784_111_777), "{text}");
        }
        assert_eq!(http("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        assert_eq!(http("Wed, 31 Dec 2025 23:59:59 GMT"), Some(1_767_225_599));
    }

    #[test]
    fn times_with_zones_are_read() {
        for text in ["1994-11-06T08:49:37Z", "1994-11-06T09:49:37.123+01:00", "1994-11-06t03:49:37-05:00"] {
            assert_eq!(rfc3339(text), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in ["", "soon", "Sun, 06 Nov 1994", "Sun, 06 Nov 1960 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT"] {
            assert_eq!(http(text), None, "{text}");
        }
        for text in ["", "1994-11-06", "1994-13-06T08:49:37Z", "1994-11-06T08:49:37", "1994-11-06T08:49:61Z"] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }
}
