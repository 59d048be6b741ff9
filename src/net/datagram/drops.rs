//! Drop counts from the kernel's UDP socket tables.
//!
//! `SO_RXQ_OVFL` reports drops only with a datagram queued after them, so the last drops of a run would go
//! unreported. Owns the parsing of the tables that Linux provides (`proc_pid_net(5)`):
//!
//! ```text
//!   sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ref pointer drops
//! ```

use std::collections::HashMap;
use std::fs;

/// Columns of the inode and of the drops, from 0.
const INODE_FIELD: usize = 9;
const DROPS_FIELD: usize = 12;

/// Returns the drops of each socket that has any, by inode; empty where the system has no such table.
pub(super) fn by_inode() -> HashMap<u64, u32> {
    let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"].map(fs::read_to_string);
    tables.iter().flatten().flat_map(|table| table.lines().filter_map(parse_line)).collect()
}

fn parse_line(line: &str) -> Option<(u64, u32)> {
    let mut fields = line.split_ascii_whitespace();
    let inode = fields.nth(INODE_FIELD)?.parse().ok()?;
    // The kernel prints a signed int: counts from 2³¹ on are negative.
    let drops: i64 = fields.nth(DROPS_FIELD - INODE_FIELD - 1)?.parse().ok()?;
    let drops = u32::try_from(drops & i64::from(u32::MAX)).ok()?;
    (drops > 0).then_some((inode, drops))
}

#[cfg(test)]
mod tests {
    use super::parse_line;

    #[test]
    fn a_row_of_the_table_is_parsed() {
        let line = "  401: 0100007F:2EE0 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 48213 2 0000000000000000 17  ";
        assert_eq!(parse_line(line), Some((48_213, 17)));
        assert_eq!(parse_line(&line.replace(" 17", " -1")), Some((48_213, u32::MAX)));
    }

    #[test]
    fn rows_without_drops_and_other_lines_are_skipped() {
        let line = "  401: 0100007F:2EE0 00000000:0000 07 0:0 00:0 0 1000 0 48213 2 0 0";
        for line in [line, "   sl  local_address rem_address   st tx_queue rx_queue tr", "", "1 2 3"] {
            assert_eq!(parse_line(line), None, "{line}");
        }
    }
}
