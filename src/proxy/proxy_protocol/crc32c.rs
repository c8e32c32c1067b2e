//! CRC-32C (Castagnoli), the checksum of version 2 (RFC 9260 appendix A has the same). A byte at a time: headers are short.

/// The polynomial 0x1EDC6F41, bits reversed.
const POLYNOMIAL: u32 = 0x82F6_3B78;

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

/// The checksum of all `bytes`.
pub(super) fn checksum(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums_come_out() {
        // RFC 3720 appendix B.4, and the catalogue's check value.
        assert_eq!(checksum([0u8; 32].into_iter()), 0x8A91_36AA);
        assert_eq!(checksum([0xFFu8; 32].into_iter()), 0x62A8_AB43);
        assert_eq!(checksum(b"123456789".iter().copied()), 0xE306_9283);
    }
}
