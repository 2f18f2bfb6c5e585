//! How hot the processor is.

use std::fs;
use std::path::Path;

/// Where Linux tells.
pub const ROOT: &str = "/sys/class/thermal";

/// What the processor's zone is called on a Pi, on other boards, on a PC.
const PROCESSORS: [&str; 4] = ["cpu", "soc", "x86_pkg_temp", "acpitz"];

/// The processor's temperature, °C, from the zones below `root`: of those that are named as
/// processors are, or else of all, the hottest. None without a zone that can be read.
pub fn temperature_c(root: &Path) -> Option<f64> {
    let zones = fs::read_dir(root).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name();
        name.to_str()?.starts_with("thermal_zone").then_some(())?;
        let kind = fs::read_to_string(entry.path().join("type")).unwrap_or_default();
        let is_other = !PROCESSORS.iter().any(|name| kind.starts_with(name));
        let text = fs::read_to_string(entry.path().join("temp")).ok()?;
        let celsius = text.trim().parse::<f64>().ok()? / 1000.0;
        // A sensor that is broken or asleep says 0 K or worse.
        (-60.0..=200.0)
            .contains(&celsius)
            .then_some((is_other, celsius))
    });
    let best = zones.min_by(|(a_other, a), (b_other, b)| a_other.cmp(b_other).then(b.total_cmp(a)));
    best.map(|(_, celsius)| celsius)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones(zones: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (number, (kind, temp)) in zones.iter().enumerate() {
            let zone = root.path().join(format!("thermal_zone{number}"));
            fs::create_dir(&zone).unwrap();
            fs::write(zone.join("type"), kind).unwrap();
            fs::write(zone.join("temp"), temp).unwrap();
        }
        root
    }

    #[test]
    fn the_processors_zone_is_taken_wherever_it_is() {
        for (told, expected) in [
            (&[("cpu-thermal\n", "48312\n")][..], Some(48.312)),
            (
                &[("gpu\n", "90000\n"), ("cpu-thermal\n", "50000\n")],
                Some(50.0),
            ),
            (&[("cpu0\n", "40000\n"), ("cpu1\n", "41000\n")], Some(41.0)),
            (&[("nvme\n", "35000\n")], Some(35.0)),
            (&[("cpu-thermal\n", "-3000\n")], Some(-3.0)),
            // Broken ones are none.
            (&[("cpu-thermal\n", "-273150\n")], None),
            (&[("cpu-thermal\n", "hot\n"), ("nvme\n", "")], None),
            (&[], None),
        ] {
            let root = zones(told);
            assert_eq!(temperature_c(root.path()), expected, "{told:?}");
        }
        assert_eq!(temperature_c(Path::new("/nowhere/at/all")), None);
    }
}
