package kvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"minivmm/internal/ioctl"
)

// Stats reads the counters that KVM keeps for a VM or a vCPU (KVM_GET_STATS_FD,
// Documentation/virt/kvm/api.rst 4.133). Reading takes no lock that the vCPU holds. Any goroutine
// may read at any time. The caller must call Close; until then the VM stays alive.
type Stats struct {
	f      *os.File
	layout statsLayout
}

// StatsFD opens the VM's counters. It requires Linux 5.14.
func (vm *VM) StatsFD() (*Stats, error) { return openStats(vm.f) }

// StatsFD opens the vCPU's counters, such as "exits", "mmio_exits" and "io_exits". It should be
// called before the first Run, because it blocks while the vCPU is in KVM_RUN. It requires Linux
// 5.14.
func (v *VCPU) StatsFD() (*Stats, error) { return openStats(v.f) }

func openStats(of *os.File) (*Stats, error) {
	fd, err := ioctl.Value(of, getStatsFD, 0)
	if err != nil {
		return nil, err
	}
	s := &Stats{f: os.NewFile(uintptr(fd), of.Name()+" stats")}
	if s.layout, err = readStatsLayout(s.f); err != nil {
		s.f.Close()
		return nil, fmt.Errorf("%s: %w", s.f.Name(), err)
	}
	return s, nil
}

// Close closes the counters.
func (s *Stats) Close() error { return s.f.Close() }

// Read returns the values of all counters by name. It omits histograms.
func (s *Stats) Read() (map[string]uint64, error) {
	b := make([]byte, s.layout.dataSize)
	if _, err := s.f.ReadAt(b, s.layout.dataOff); err != nil {
		return nil, err
	}
	m := make(map[string]uint64, len(s.layout.counters))
	for _, c := range s.layout.counters {
		m[c.name] = binary.LittleEndian.Uint64(b[c.off:])
	}
	return m, nil
}

// statsCounter is a counter: its name, and the offset of its value from the start of the data.
type statsCounter struct {
	name string
	off  uint32
}

// statsLayout is the layout of the counters in a stats file.
type statsLayout struct {
	dataOff  int64
	dataSize uint32 // bytes from dataOff to the end of the last counter
	counters []statsCounter
}

// Layout of struct kvm_stats_header and struct kvm_stats_desc (uapi/linux/kvm.h).
const (
	offStatsNameSize   = 4
	offStatsNumDesc    = 8
	offStatsDescOffset = 16
	offStatsDataOffset = 20
	sizeStatsHeader    = 24

	offDescSize   = 6
	offDescOffset = 8
	offDescName   = 16

	// Bounds on the values in a header and its descriptors. Linux 6.12 has names of 48 bytes and
	// about 60 descriptors.
	maxStatsName = 1024
	maxStatsDesc = 4096
	maxStatsData = 1 << 20
)

var errStatsLayout = errors.New("malformed statistics header")

// readStatsLayout reads the header and the descriptors at the start of a stats file.
func readStatsLayout(r io.ReaderAt) (statsLayout, error) {
	le := binary.LittleEndian
	var head [sizeStatsHeader]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return statsLayout{}, err
	}
	nameSize := le.Uint32(head[offStatsNameSize:])
	numDesc := le.Uint32(head[offStatsNumDesc:])
	if nameSize == 0 || nameSize > maxStatsName || numDesc > maxStatsDesc {
		return statsLayout{}, errStatsLayout
	}
	descSize := offDescName + int(nameSize)
	descs := make([]byte, int(numDesc)*descSize)
	if _, err := r.ReadAt(descs, int64(le.Uint32(head[offStatsDescOffset:]))); err != nil {
		return statsLayout{}, err
	}
	l := statsLayout{dataOff: int64(le.Uint32(head[offStatsDataOffset:]))}
	for ; len(descs) > 0; descs = descs[descSize:] {
		off := le.Uint32(descs[offDescOffset:])
		if le.Uint16(descs[offDescSize:]) != 1 {
			continue // a histogram
		}
		if off > maxStatsData-8 {
			return statsLayout{}, errStatsLayout
		}
		name, _, _ := bytes.Cut(descs[offDescName:descSize], []byte{0})
		l.counters = append(l.counters, statsCounter{string(name), off})
		l.dataSize = max(l.dataSize, off+8)
	}
	return l, nil
}
