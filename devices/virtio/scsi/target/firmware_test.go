package target

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// TestFirmwareCommands checks that the commands of boot firmware find, size, read and write a unit
// that has just been switched on, in the firmware's order and with its allocation lengths. GRUB
// accesses the disk through the firmware. A command may fail only where the firmware tries again.
func TestFirmwareCommands(t *testing.T) {
	type command struct {
		what, cdb   string
		in          int
		want, sense string // data as a hexadecimal prefix; sense data as senseHex has it
	}
	ready := []command{
		{"TEST UNIT READY", "00", 0, "", "062900"},
		{"REQUEST SENSE, already returned with the status", "030000001200", 18, "700000000000000a0000000000", ""},
		{"TEST UNIT READY", "00", 0, "", ""},
	}
	const sectors = "000007ff 00000200"
	identity := "00000602 5b000002" + hex.EncodeToString([]byte(vendor+product+revision))
	for _, tt := range []struct {
		name     string
		commands []command
	}{
		// src/hw/blockcmd.c: scsi_rep_luns_scan, scsi_drive_setup, scsi_is_ready, scsi_fill_cmd
		{"SeaBIOS", append(append([]command{
			{"REPORT LUNS, buffer for one", "a00000000000000000100000", 16, "00000008 00000000 0000000000000000", ""},
			{"INQUIRY", "120000002400", 36, identity, ""},
		}, ready...), []command{
			{"READ CAPACITY (10)", "25000000000000000000", 8, sectors, ""},
			{"READ (10) of the boot sector", "28000000000000000100", 512, "eb63 90", ""},
			{"READ (10) of the maximum of a BIOS call", "28000000000100007f00", 127 * 512, "00", ""},
		}...)},
		// MdeModulePkg/Bus/Scsi: ScsiBusDxe DiscoverScsiDevice, ScsiDiskDxe ScsiDiskDetectMedia;
		// MdePkg UefiScsiLib
		{"EDK2", append(append([]command{
			{"INQUIRY", "120000006000", 96, "00000602 5b000002", ""},
			{"INQUIRY of the page list, whose length of 260 is truncated to a byte", "120100000400", 4, "00000006", ""},
			{"INQUIRY of the page list, whole", "12010000ff00", 255, "00000006 00 80 83 b0 b1 b2", ""},
			{"INQUIRY of Block Limits", "1201b0004000", 64, "00b0003c 01", ""},
		}, ready...), []command{
			{"READ CAPACITY (10)", "25000000000000000000", 8, sectors, ""},
			{"READ CAPACITY (16)", "9e100000000000000000000000200000", 32, "00000000" + sectors, ""},
			{"MODE SENSE (10), all pages", "5a003f00000000ffff00", 65535, "00", ""},
			{"SECURITY PROTOCOL IN", "a20000000000000002000000", 512, "", "052000@c00000"},
			{"READ (16) of the boot sector", "88000000000000000000000000010000", 512, "eb63 90", ""},
		}...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tg := newTarget(t, Unit{Serial: "1"})
			boot := append([]byte{0xeb, 0x63, 0x90}, make([]byte, 509)...) // a jump over the BIOS parameter block, as GRUB's
			if reply, _ := do(t, tg, 0, unhex(t, "2a000000000000000100"), boot, 0); reply.Status != Good {
				t.Fatalf("WRITE (10): %s", senseHex(reply))
			}
			tg.PowerOn()
			for _, c := range tt.commands {
				reply, data := do(t, tg, 0, unhex(t, c.cdb), nil, c.in)
				if got := senseHex(reply); got != c.sense {
					t.Errorf("%s: sense data %q, want %q", c.what, got, c.sense)
				}
				if want := unhex(t, c.want); !bytes.HasPrefix(data, want) {
					t.Errorf("%s: % x, want % x first", c.what, data[:min(len(data), 64)], want)
				}
			}
		})
	}
}
