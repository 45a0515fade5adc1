package acpi

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// aml is encoded ACPI machine language: a sequence of terms. ACPI 6.5 chapter 20; the comments give
// the names of the productions.
type aml []byte

func join(terms ...aml) aml {
	var b aml
	for _, t := range terms {
		b = append(b, t...)
	}
	return b
}

// sized returns op, PkgLength and body, up to 1 MiB. PkgLength counts itself: §20.2.4.
func sized(op []byte, body ...aml) aml {
	content := join(body...)
	n := len(content)
	var length []byte
	switch {
	case n+1 < 1<<6:
		length = []byte{byte(n + 1)}
	case n+2 < 1<<12:
		n += 2
		length = []byte{1<<6 | byte(n&0xf), byte(n >> 4)}
	default:
		n += 3
		length = []byte{2<<6 | byte(n&0xf), byte(n >> 4), byte(n >> 12)}
	}
	return join(op, length, content)
}

// nameSeg encodes a name of up to four characters, padded with '_': NameSeg, §20.2.2. The DSDT
// needs no paths.
func nameSeg(s string) aml { return aml((s + "____")[:4]) }

// integer returns the shortest of ZeroOp, OneOp, ByteConst to QWordConst.
func integer(v uint64) aml {
	le := binary.LittleEndian
	switch {
	case v <= 1:
		return aml{byte(v)}
	case v < 1<<8:
		return aml{0x0a, byte(v)}
	case v < 1<<16:
		return le.AppendUint16(aml{0x0b}, uint16(v))
	case v < 1<<32:
		return le.AppendUint32(aml{0x0c}, uint32(v))
	}
	return le.AppendUint64(aml{0x0e}, v)
}

func str(s string) aml { return append(append(aml{0x0d}, s...), 0) }

// eisaID packs an ID like "PNP0A08": EISAID macro, §19.6.35.
func eisaID(id string) aml {
	var v uint32
	for _, c := range []byte(id[:3]) {
		v = v<<5 | uint32(c-'@')
	}
	for _, c := range []byte(id[3:]) {
		v = v<<4 | uint32(strings.IndexByte("0123456789ABCDEF", c))
	}
	return binary.BigEndian.AppendUint32(aml{0x0c}, v)
}

// uuid encodes ToUUID: the first three groups little-endian, §19.6.142.
func uuid(s string) aml {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		panic(fmt.Sprintf("acpi: uuid %q", s)) // a constant of this package
	}
	slices.Reverse(b[0:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
	return buffer(b)
}

// Objects: §20.2.5.1 and §20.2.5.2.

func buffer(b []byte) aml { return sized([]byte{0x11}, integer(uint64(len(b))), aml(b)) } // DefBuffer

func pkg(elements ...aml) aml { // DefPackage
	return sized([]byte{0x12}, aml{byte(len(elements))}, join(elements...))
}

func name(segment string, value aml) aml { return join(aml{0x08}, nameSeg(segment), value) } // DefName

func scope(segment string, terms ...aml) aml { // DefScope
	return sized([]byte{0x10}, nameSeg(segment), join(terms...))
}

func device(segment string, terms ...aml) aml { // DefDevice
	return sized([]byte{0x5b, 0x82}, nameSeg(segment), join(terms...))
}

// method is always serialized: iasl requires that of methods that create names.
func method(segment string, args uint8, terms ...aml) aml { // DefMethod
	const serialized = 1 << 3
	return sized([]byte{0x14}, nameSeg(segment), aml{args&7 | serialized}, join(terms...))
}

// Statements and expressions: §20.2.5.3 and §20.2.5.4.

func arg(n uint8) aml { return aml{0x68 + n} } // Arg0Op

func when(cond aml, then ...aml) aml { return sized([]byte{0xa0}, cond, join(then...)) } // DefIfElse

func otherwise(terms ...aml) aml { return sized([]byte{0xa1}, join(terms...)) } // DefElse

func equal(a, b aml) aml { return join(aml{0x93}, a, b) } // DefLEqual

func not(a aml) aml { return join(aml{0x92}, a) } // DefLNot

func orInto(target string, v aml) aml { // DefOr
	return join(aml{0x7d}, nameSeg(target), v, nameSeg(target))
}

func notify(segment string, v aml) aml { return join(aml{0x86}, nameSeg(segment), v) } // DefNotify

func ret(v aml) aml { return join(aml{0xa4}, v) } // DefReturn

func dwordField(of aml, off uint64, segment string) aml { // DefCreateDWordField
	return join(aml{0x8a}, of, integer(off), nameSeg(segment))
}

// Resource descriptors, ACPI 6.5 §6.4. Each function returns one descriptor.

// resources returns a buffer of descriptors, closed by an end tag with checksum 0, "treat as
// correct" (§6.4.2.9).
func resources(descriptors ...[]byte) aml {
	var b []byte
	for _, d := range descriptors {
		b = append(b, d...)
	}
	return buffer(append(b, 0x79, 0))
}

// ioPorts is the I/O Port Descriptor (§6.4.2.5), 16-bit decode, fixed.
func ioPorts(first uint16, n uint8) []byte {
	le := binary.LittleEndian
	b := []byte{0x47, 1}
	b = le.AppendUint16(b, first) // _MIN
	b = le.AppendUint16(b, first) // _MAX
	return append(b, 1, n)        // _ALN, _LEN
}

// memory32 is the 32-bit Fixed Memory Range Descriptor (§6.4.3.4), writable.
func memory32(base, size uint32) []byte {
	le := binary.LittleEndian
	b := []byte{0x86, 9, 0, 1}
	b = le.AppendUint32(b, base)
	return le.AppendUint32(b, size)
}

// interrupt is the Extended Interrupt Descriptor (§6.4.3.6): edge, active high, exclusive,
// consumed. Linux uses these values even if the MADT has others for the line; with the older IRQ
// descriptor it does not.
func interrupt(gsi uint32) []byte {
	const consumer, edge = 1 << 0, 1 << 1
	return binary.LittleEndian.AppendUint32([]byte{0x89, 6, 0, consumer | edge, 1}, gsi)
}

// Kinds and flags of address space descriptors, §6.4.3.5.
const (
	spaceMemory = 0
	spaceIO     = 1
	spaceBus    = 2

	generalFixed = 1<<2 | 1<<3 // _MIF, _MAF

	memoryWritable = 1 << 0 // _RW; not cacheable, plain memory
	ioEntireRange  = 3      // _RNG: both ISA and non-ISA ranges
)

// window describes a range that a host bridge forwards: memory as a DWord Address Space Descriptor
// (§6.4.3.5.2), bus numbers and I/O ports as a Word Address Space Descriptor (§6.4.3.5.3).
func window(kind, flags byte, w Window) []byte {
	tag, size := byte(0x88), 2
	if kind == spaceMemory {
		tag, size = 0x87, 4
	}
	b := []byte{tag, byte(3 + 5*size), 0, kind, generalFixed, flags}
	for _, v := range []uint32{0, w.Base, w.Base + w.Size - 1, 0, w.Size} { // _GRA, _MIN, _MAX, _TRA, _LEN
		b = append(b, binary.LittleEndian.AppendUint32(nil, v)[:size]...)
	}
	return b
}
