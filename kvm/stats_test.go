package kvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"testing"
)

// statsFile builds a stats file: a header, descriptors {name, size, offset}, then data.
func statsFile(nameSize uint32, descs ...statsDesc) []byte {
	le := binary.LittleEndian
	descOff := uint32(sizeStatsHeader + 8) // as in the kernel, which puts an id in between
	b := make([]byte, descOff)
	le.PutUint32(b[offStatsNameSize:], nameSize)
	le.PutUint32(b[offStatsNumDesc:], uint32(len(descs)))
	le.PutUint32(b[offStatsDescOffset:], descOff)
	le.PutUint32(b[offStatsDataOffset:], descOff+uint32(len(descs))*(offDescName+nameSize))
	for _, d := range descs {
		desc := make([]byte, offDescName+nameSize)
		le.PutUint16(desc[offDescSize:], d.size)
		le.PutUint32(desc[offDescOffset:], d.off)
		copy(desc[offDescName:], d.name)
		b = append(b, desc...)
	}
	return b
}

type statsDesc struct {
	name string
	size uint16
	off  uint32
}

func TestStatsLayout(t *testing.T) {
	for _, test := range []struct {
		name string
		file []byte
		want []statsCounter
		err  error
	}{
		{"two and a histogram", statsFile(48, statsDesc{"exits", 1, 0}, statsDesc{"hist", 32, 8}, statsDesc{"io_exits", 1, 264}),
			[]statsCounter{{"exits", 0}, {"io_exits", 264}}, nil},
		{"name without end", statsFile(4, statsDesc{"abcd", 1, 0}), []statsCounter{{"abcd", 0}}, nil},
		{"none", append(statsFile(48), 0), nil, nil},
		{"short header", make([]byte, 20), nil, io.EOF},
		{"short descriptors", statsFile(48, statsDesc{"exits", 1, 0})[:60], nil, io.EOF},
		{"no name size", statsFile(0, statsDesc{"", 1, 0}), nil, errStatsLayout},
		{"huge name size", statsFile(maxStatsName + 1), nil, errStatsLayout},
		{"far offset", statsFile(48, statsDesc{"exits", 1, maxStatsData}), nil, errStatsLayout},
	} {
		l, err := readStatsLayout(bytes.NewReader(test.file))
		if !errors.Is(err, test.err) || !reflect.DeepEqual(l.counters, test.want) {
			t.Errorf("%s: got %v, %v; want %v, %v", test.name, l.counters, err, test.want, test.err)
		}
	}
	huge := statsFile(48)
	binary.LittleEndian.PutUint32(huge[offStatsNumDesc:], maxStatsDesc+1)
	if _, err := readStatsLayout(bytes.NewReader(huge)); !errors.Is(err, errStatsLayout) {
		t.Errorf("too many descriptors: %v", err)
	}
}

func FuzzStatsLayout(f *testing.F) {
	f.Add(statsFile(48, statsDesc{"exits", 1, 0}, statsDesc{"hist", 32, 8}))
	f.Add(statsFile(4, statsDesc{"abcd", 1, 0xffffffff}))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := readStatsLayout(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, c := range l.counters {
			if c.off+8 > l.dataSize || l.dataSize > maxStatsData {
				t.Errorf("counter at %d in %d bytes", c.off, l.dataSize)
			}
		}
	})
}
