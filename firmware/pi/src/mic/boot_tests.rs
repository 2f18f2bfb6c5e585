use super::*;
use crate::mic::Severity;

const PATH: &str = "/boot/firmware/config.txt";
const PI_4: &str = "Raspberry Pi 4 Model B Rev 1.5\0";

/// As Raspberry Pi OS comes, with what is put at its end.
fn config(end: &str) -> String {
    format!(
        "\
# For more options and information see
# http://rptl.io/configtxt
# Some settings may impact device functionality. See link above for details

# Uncomment some or all of these to enable the optional hardware interfaces
#dtparam=i2c_arm=on
#dtparam=i2s=on
#dtparam=spi=on

# Enable audio (loads snd_bcm2835)
dtparam=audio=on

camera_auto_detect=1
display_auto_detect=1
auto_initramfs=1

# Enable DRM VC4 V3D driver
dtoverlay=vc4-kms-v3d
max_framebuffers=2
disable_fw_kms_setup=1
arm_64bit=1
disable_overscan=1
arm_boost=1

[cm4]
# Enable host mode on the 2711 built-in XHCI USB controller.
otg_mode=1

[cm5]
dtoverlay=dwc2,dr_mode=host

[all]
{end}"
    )
}

fn examined(end: &str) -> Vec<Finding> {
    examine(PATH, &config(end), PI_4, false)
}

fn worst(findings: &[Finding]) -> Severity {
    let severities = findings.iter().map(|finding| finding.severity);
    severities.max().unwrap_or(Severity::Ok)
}

#[test]
fn the_one_line_is_all_that_is_needed() {
    for end in [
        "dtoverlay=googlevoicehat-soundcard\n",
        "dtparam=i2s=on\r\ndtoverlay=googlevoicehat-soundcard\r\n",
        "[pi4]\ndtoverlay=googlevoicehat-soundcard",
        "[pi3]\narm_freq=1\n[all]\ndtoverlay=googlevoicehat-soundcard,no-sdmode\n",
        // What is safe beside it.
        "dtoverlay=googlevoicehat-soundcard\ndtoverlay=gpio-fan,gpiopin=14\ndtoverlay=w1-gpio\ngpio=5,6,22-27=op\n",
        "dtoverlay=googlevoicehat-soundcard\ndtoverlay=pwm,pin=12,func=4\ndtoverlay=spi0-1cs\n",
        "dtoverlay=googlevoicehat-soundcard\n#dtoverlay=spi1-3cs\n[pi5]\ndtoverlay=spi1-3cs\n",
    ] {
        let findings = examined(end);
        assert_eq!(worst(&findings), Severity::Ok, "{end}: {findings:#?}");
        assert!(!findings.is_empty());
    }
}

#[test]
fn what_is_missing_or_passed_over_is_a_problem_with_a_line_to_type() {
    for (end, what, fix) in [
        (
            "",
            "loads no overlay",
            "sudo tee -a /boot/firmware/config.txt",
        ),
        (
            "# dtoverlay=googlevoicehat-soundcard\n",
            ":33: dtoverlay=googlevoicehat-soundcard is commented out",
            "sudo sed -i '33s/^[# \\t]*//' /boot/firmware/config.txt",
        ),
        (
            "dtoverlay=i2s-mems\n",
            ":33: dtoverlay=i2s-mems does not exist",
            "sudo sed -i '33s/.*/dtoverlay=googlevoicehat-soundcard/'",
        ),
        (
            "dtoverlay=googlevoicehat\n",
            ":33: dtoverlay=googlevoicehat does not exist",
            "'33s/.*/dtoverlay=googlevoicehat-soundcard/'",
        ),
        (
            "[pi5]\ndtoverlay=googlevoicehat-soundcard\n",
            ":34: dtoverlay=googlevoicehat-soundcard is in section [pi5]",
            "[all]\\ndtoverlay=",
        ),
        (
            "[none]\ndtoverlay=googlevoicehat-soundcard\n",
            "in section [none]",
            "[all]\\ndtoverlay=",
        ),
    ] {
        let findings = examined(end);
        let problems: Vec<_> = findings
            .iter()
            .filter(|finding| finding.severity == Severity::Problem)
            .collect();
        assert_eq!(problems.len(), 1, "{end}: {findings:#?}");
        assert!(problems[0].what.contains(what), "{end}: {findings:#?}");
        let typed = problems[0].fix.as_deref().unwrap_or_default();
        assert!(typed.contains(fix), "{fix} is not in {typed}");
    }
    // With a USB microphone it is only worth knowing.
    let findings = examine(PATH, &config(""), PI_4, true);
    assert_eq!(worst(&findings), Severity::Note, "{findings:#?}");
    // Beside the right one, the wrong one does no harm.
    let findings = examined("dtoverlay=i2s-mems\ndtoverlay=googlevoicehat-soundcard\n");
    assert_eq!(worst(&findings), Severity::Note, "{findings:#?}");
}

#[test]
fn pins_that_two_want_are_named_with_the_line() {
    for (line, pins) in [
        ("dtoverlay=spi1-1cs", "18, 19, 20, 21"),
        ("dtoverlay=spi1-3cs", "16, 18, 19, 20, 21"),
        ("dtoverlay=pwm-2chan", "18, 19"),
        ("dtoverlay=pwm", "18"),
        ("dtoverlay=gpio-fan,gpiopin=18,temp=60000", "18"),
        ("dtoverlay=gpio-fan\ndtparam=gpiopin=16", "16"),
        ("dtoverlay=gpio-ir", "18"),
        ("dtoverlay=gpio-ir,gpio_pin=20", "20"),
        ("dtoverlay=w1-gpio,gpiopin=21", "21"),
        ("dtoverlay=spi0-2cs,cs0_pin=16", "16"),
        ("dtoverlay=hifiberry-dac", "18, 19, 20, 21"),
        ("dtoverlay=vc4-kms-dpi-generic", "18, 19, 20, 21"),
        ("gpio=16=op,dh", "16"),
        ("gpio=0-27=a2", "16, 18, 19, 20, 21"),
        ("dtoverlay=\ndtparam=act_led_gpio=16", "16"),
    ] {
        let findings = examined(&format!("dtoverlay={OVERLAY}\n{line}\n"));
        let problems: Vec<_> = findings
            .iter()
            .filter(|finding| finding.severity == Severity::Problem)
            .collect();
        assert_eq!(problems.len(), 1, "{line}: {findings:#?}");
        let what = &problems[0].what;
        let number = 33 + line.lines().count();
        assert!(what.contains(&format!(":{number}: ")), "{line}: {what}");
        let taken = format!("conflicts with the microphone on GPIO {pins}");
        assert!(what.contains(&taken), "{line}: {what}");
    }
}

#[test]
fn sections_are_for_the_model_that_they_name() {
    let cm4 = "Raspberry Pi Compute Module 4 Rev 1.1";
    for (section, model, expected) in [
        ("pi4", PI_4, Applies::Yes),
        ("pi400", PI_4, Applies::No),
        ("pi4", "Raspberry Pi 400 Rev 1.0", Applies::Yes),
        ("pi4", cm4, Applies::Yes),
        ("cm4", cm4, Applies::Yes),
        ("cm4s", cm4, Applies::No),
        ("pi5", "Raspberry Pi 5 Model B Rev 1.0", Applies::Yes),
        ("pi0", "Raspberry Pi Zero 2 W Rev 1.0", Applies::Yes),
        ("pi02", "Raspberry Pi Zero W Rev 1.1", Applies::No),
        ("pi3+", "Raspberry Pi 3 Model B Plus Rev 1.3", Applies::Yes),
        ("pi3+", "Raspberry Pi 3 Model B Rev 1.2", Applies::No),
        ("pi1", "Raspberry Pi Model B Plus Rev 1.2", Applies::Yes),
        ("pi1", PI_4, Applies::No),
        ("pi4", "", Applies::Perhaps),
        ("gpio4=1", PI_4, Applies::Perhaps),
        ("0x12345678", PI_4, Applies::Perhaps),
        ("tryboot", PI_4, Applies::No),
        ("all", PI_4, Applies::Yes),
    ] {
        let text = format!("[{section}]\ndtoverlay={OVERLAY}\n");
        let boot = parse(&text, model);
        assert_eq!(boot.overlays[0].applies, expected, "[{section}] on {model}");
    }
    // One for a model replaces one for another; something else comes on top.
    let text = "[pi5]\n[pi4]\ndtoverlay=a\n[none]\n[pi4]\ndtoverlay=b\n[all]\ndtoverlay=c\n";
    let applies: Vec<_> = parse(text, PI_4)
        .overlays
        .iter()
        .map(|overlay| overlay.applies)
        .collect();
    assert_eq!(applies, [Applies::Yes, Applies::No, Applies::Yes]);
}

#[test]
fn any_text_is_survived() {
    for text in [
        "",
        "[",
        "[]",
        "=",
        "dtoverlay",
        "dtoverlay=,=,",
        "gpio=-=",
        "#\u{0}[all]\r",
    ] {
        examine(PATH, text, "", false);
    }
    let findings = examined("include extra.txt\n");
    assert!(
        findings
            .iter()
            .any(|f| f.what.contains("includes extra.txt"))
    );
}
