package acpi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func TestFieldsAreWhereTheSpecificationPutsThem(t *testing.T) {
	c := testConfig(mostCPUs)
	tables := tablesOf(t, c)
	io := func(port uint16) string {
		return "\x01\x08\x00\x01" + string([]byte{byte(port), byte(port >> 8)}) + "\x00\x00\x00\x00\x00\x00"
	}
	for _, f := range []struct {
		table, field string
		off          int
		want         string
	}{
		// Table 5.33. Fields of the fixed hardware are zero on this platform.
		{"FACP", "FADT Major Version", 8, "\x06"},
		{"FACP", "FIRMWARE_CTRL", 36, "\x00\x00\x00\x00"},
		{"FACP", "Preferred_PM_Profile", 45, "\x04"},
		{"FACP", "SCI_INT", 46, "\x00\x00"},
		{"FACP", "SMI_CMD .. CENTURY", 48, strings.Repeat("\x00", 109-48)},
		{"FACP", "IAPC_BOOT_ARCH", 109, "\x24\x00"},
		{"FACP", "Flags", 112, "\x75\x14\x10\x00"},
		{"FACP", "RESET_REG", 116, io(c.Reset)},
		{"FACP", "RESET_VALUE", 128, "\x01"},
		{"FACP", "FADT Minor Version", 131, "\x03"},
		{"FACP", "X_FIRMWARE_CTRL", 132, strings.Repeat("\x00", 8)},
		{"FACP", "X_PM1a_EVT_BLK .. X_GPE1_BLK", 148, strings.Repeat("\x00", 244-148)},
		{"FACP", "SLEEP_CONTROL_REG", 244, io(c.SleepControl)},
		{"FACP", "SLEEP_STATUS_REG", 256, io(c.SleepStatus)},
		{"FACP", "Hypervisor Vendor Identity", 268, "minivmm\x00"},
		// Table 5.43 and its entries.
		{"APIC", "Local Interrupt Controller Address", 36, "\x00\x00\xe0\xfe"},
		{"APIC", "Flags", 40, "\x00\x00\x00\x00"},
		{"APIC", "first LAPIC", 44, "\x00\x08\x00\x00\x01\x00\x00\x00"},
		{"APIC", "last LAPIC", 44 + 254*8, "\x00\x08\xfe\xfe\x01\x00\x00\x00"},
		{"APIC", "I/O APIC", 44 + 255*8, "\x01\x0c\x00\x00\x00\x00\xc0\xfe\x00\x00\x00\x00"},
		// PCI firmware specification table 4-2, 4-3.
		{"MCFG", "base address", 44, "\x00\x00\x00\xe0\x00\x00\x00\x00"},
		{"MCFG", "segment, first and last bus", 52, "\x00\x00\x00\x00\x00\x00\x00\x00"},
	} {
		got := tables[f.table][f.off:]
		if got = got[:min(len(got), len(f.want))]; string(got) != f.want {
			t.Errorf("%s %s at %d: % x, want % x", f.table, f.field, f.off, got, f.want)
		}
	}
	for sig, want := range map[string]int{"FACP": 276, "APIC": 44 + 255*8 + 12, "MCFG": 60, "XSDT": 36 + 3*8} {
		if got := len(tables[sig]); got != want {
			t.Errorf("%s has %d bytes, want %d", sig, got, want)
		}
	}
}

func TestEveryTableSumsToZeroAndLiesApart(t *testing.T) {
	for _, cpus := range []int{1, 4, 16, 64, mostCPUs} {
		t.Run(fmt.Sprint(cpus), func(t *testing.T) {
			b := Build(testConfig(cpus), 1<<20)
			if string(b[:8]) != "RSD PTR " || checksum(b[:20]) != 0 || checksum(b[:36]) != 0 || b[15] != 2 || le32(b[20:]) != 36 {
				t.Errorf("RSDP: % x", b[:36])
			}
			total := rsdpSize
			for sig, tbl := range tablesOf(t, testConfig(cpus)) {
				if checksum(tbl) != 0 {
					t.Errorf("%s: bytes sum to %#x, want 0", sig, -checksum(tbl))
				}
				if !bytes.HasPrefix(tbl, []byte(sig)) || !bytes.Equal(tbl[10:16], []byte(oemID)) {
					t.Errorf("%s: wrong header % x", sig, tbl[:36])
				}
				total += len(tbl)
			}
			if total > len(b) || total+5*align < len(b) {
				t.Errorf("the tables have %d bytes but the blob has %d: they overlap or leave holes", total, len(b))
			}
		})
	}
}

func TestPackageLengthsCountThemselves(t *testing.T) {
	// The encoding grows by a byte around these sizes: ACPI 6.5 §20.2.4.
	for body, want := range map[int]string{
		0:         "\x01",
		62:        "\x3f",
		63:        "\x41\x04",
		4093:      "\x4f\xff",
		4094:      "\x81\x00\x01",
		1<<20 - 4: "\x8f\xff\xff",
	} {
		b := sized([]byte{0x10}, make(aml, body))
		if got := string(b[1 : len(b)-body]); got != want {
			t.Errorf("body of %d bytes: length % x, want % x", body, got, want)
		}
	}
}

func TestSleepValueIsWhatLinuxWrites(t *testing.T) {
	// acpi_hw_extended_sleep: (5 << 2) & 0x1c | ACPI_X_SLEEP_ENABLE.
	if got := SleepValue(S5); got != 0x34 {
		t.Errorf("S5 is written as %#x, want 0x34", got)
	}
}
