package config

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strconv"
	"strings"
)

// derive fills in the defaults that depend on a name or on the position in a list. These defaults
// are stable: the same configuration file gives the same machine on every start and on every host.
func (c *Config) derive() {
	for i := range c.Net {
		n := &c.Net[i]
		if n.ID == "" {
			n.ID = Name("net" + strconv.Itoa(i))
		}
		if n.MAC == (MAC{}) {
			n.MAC = deriveMAC(c.Name, n.ID)
		}
	}
	for i := range c.Disk {
		d := &c.Disk[i]
		if d.ID == "" {
			d.ID = Name("disk" + strconv.Itoa(i))
		}
		if d.Serial == "" {
			d.Serial = deriveSerial(c.Name, d.ID)
		}
	}
}

// imageID is the id of the disk that holds the image.
const imageID Name = "image"

// ImageDisk returns the read-only disk that holds the machine's image. The disk's Path is still
// empty. All machines with the same image share one file.
func (c *Config) ImageDisk() Disk {
	var d Disk
	d.setDefaults()
	d.ID, d.ReadOnly, d.Serial = imageID, true, deriveSerial(c.Name, imageID)
	return d
}

// deriveMAC returns a locally administered unicast MAC address: in the first byte, bit 1 is set and
// bit 0 is clear.
func deriveMAC(machine, id Name) MAC {
	sum := sha256.Sum256([]byte("minivmm mac\x00" + string(machine+"\x00"+id)))
	m := MAC(sum[:6])
	m[0] = m[0]&^3 | 2
	return m
}

// deriveSerial returns 32 hex digits. The kernel's target derives a LUN's NAA name from the hex
// digits of its serial (spc_gen_naa_6h_vendor_specific, drivers/target/target_core_spc.c), and two
// LUNs must not have the same NAA name.
func deriveSerial(machine, id Name) Serial {
	sum := sha256.Sum256([]byte("minivmm serial\x00" + string(machine+"\x00"+id)))
	return Serial(hex.EncodeToString(sum[:16]))
}

// deriveName derives a valid name from a file name: "My VM.toml" becomes "my-vm".
func deriveName(file string) Name {
	base := strings.ToLower(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)))
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, base)
	name = strings.TrimLeft(name, "-")
	name = strings.TrimRight(name[:min(len(name), maxName)], "-")
	if name == "" {
		return "vm"
	}
	return Name(name)
}
