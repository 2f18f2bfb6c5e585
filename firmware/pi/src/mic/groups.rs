//! Groups, without which a user may not open the devices.

use super::Finding;
use crate::capture::cards::field;

/// A group, and what for.
const NEEDED: [(&str, &str); 4] = [
    ("audio", "no microphone can be opened"),
    ("gpio", "lights and the button stay off"),
    ("i2c", "the display stays dark"),
    ("spi", "the level bar stays dark"),
];

/// Which groups a user lacks, from the texts of `/etc/group` and `/proc/self/status`.
pub fn examine(group: &str, status: &str) -> Vec<Finding> {
    let numbers = |name: &str| -> Vec<u32> {
        let numbers = field(status, name).unwrap_or_default();
        let numbers = numbers.split_whitespace();
        numbers.filter_map(|number| number.parse().ok()).collect()
    };
    if numbers("Uid:").get(1) == Some(&0) {
        return vec![Finding::ok("running as root, which may open everything")];
    }
    let mut ours = numbers("Groups:");
    ours.extend(numbers("Gid:"));
    let mut findings = Vec::new();
    for (name, without) in NEEDED {
        // Systems that have no such group need none.
        let Some(id) = number(group, name) else {
            continue;
        };
        let what = format!("the user is not in the group {name}");
        let finding = match (ours.contains(&id), name) {
            (true, _) => continue,
            (false, "audio") => Finding::problem(what),
            (false, _) => Finding::note(what),
        };
        let fix = format!("sudo usermod -aG {name} $USER, then log in again");
        findings.push(finding.why(without).fix(fix));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("the user is in all groups required"));
    }
    findings
}

/// `audio:x:29:pi,anna`
fn number(group: &str, name: &str) -> Option<u32> {
    group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mic::Severity;

    const GROUP: &str =
        "root:x:0:\naudio:x:29:pi,anna\ni2c:x:994:pi\nspi:x:995:pi\ngpio:x:993:pi\npi:x:1000:\n";

    fn examined(uid: u32, gid: u32, groups: &str) -> Vec<(Severity, String)> {
        let status = format!(
            "Name:\tsori-pi\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{gid}\t{gid}\t{gid}\t{gid}\nGroups:\t{groups} \n"
        );
        let findings = examine(GROUP, &status);
        findings.into_iter().map(|f| (f.severity, f.what)).collect()
    }

    #[test]
    fn what_the_user_lacks_is_named_and_only_audio_is_a_problem() {
        let all = examined(1000, 1000, "29 993 994 995 1000");
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].0, Severity::Ok);
        let none = examined(1000, 1000, "");
        let severities: Vec<_> = none.iter().map(|(severity, _)| *severity).collect();
        use Severity::{Note, Problem};
        assert_eq!(severities, [Problem, Note, Note, Note], "{none:?}");
        // A service may have it as its own group.
        let service = examined(998, 29, "993 994");
        assert_eq!(service, [(Note, "the user is not in the group spi".into())]);
        assert_eq!(examined(0, 0, "")[0].0, Severity::Ok);
    }

    #[test]
    fn systems_without_these_groups_need_none_and_any_text_is_survived() {
        let findings = examine("root:x:0:\n", "Uid:\t1\t1\n");
        assert_eq!(findings[0].severity, Severity::Ok);
        assert_eq!(
            examine("audio\n::\naudio:x:many:\n", "")[0].severity,
            Severity::Ok
        );
    }
}
