package pci

import (
	"encoding/binary"
	"iter"
)

var le = binary.LittleEndian // PCI is little endian

// parts splits an access into naturally aligned parts of 1, 2 or 4 bytes, lowest address first.
// Configuration space guarantees nothing for wider or unaligned accesses, and so no register sees
// one.
func parts(off uint64, p []byte) iter.Seq2[uint64, []byte] {
	return func(yield func(uint64, []byte) bool) {
		for len(p) > 0 {
			n := 4
			for off%uint64(n) != 0 || n > len(p) {
				n /= 2
			}
			if !yield(off, p[:n]) {
				return
			}
			off, p = off+uint64(n), p[n:]
		}
	}
}

// ones fills p with ones, the value of registers that do not exist.
func ones(p []byte) {
	for i := range p {
		p[i] = 0xff
	}
}
