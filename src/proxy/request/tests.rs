//! Tests of the pure parts of a request: the spreading of addresses.

use super::*;

#[test]
fn addresses_are_spread_evenly_and_the_same_everywhere() {
    let share = |shift: u32| {
        let upper = (0..4096_u32).filter(|n| {
            let source = IpAddr::from((0x0a00_0000 + (n << shift)).to_be_bytes());
            spread(source) >> 63 == 1
        });
        upper.count()
    };
    for shift in [0, 4, 8] {
        // Six standard deviations around a half.
        assert!((1856..=2240).contains(&share(shift)), "{} of 4096, {shift} bits apart", share(shift));
    }
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    assert_eq!(spread(parse("10.0.0.1")), spread(parse("::ffff:10.0.0.1")));
}
