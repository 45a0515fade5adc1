// Package kerneltest creates small files that look like kernels, modules and packages to a program
// that only inspects them. They cannot run. It is for tests.
package kerneltest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// Vmlinux returns an x86-64 ELF executable with one loadable segment, which contains a kernel's
// version banner.
func Vmlinux(version string) []byte {
	le := binary.LittleEndian
	const off = 0x1000
	text := "\xf4\xeb\xfd\x00Linux version " + version + "\n\x00"
	b := make([]byte, off, off+len(text))
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)  // ET_EXEC
	le.PutUint16(b[18:], 62) // EM_X86_64
	le.PutUint64(b[24:], 0x1000000)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	header := b[64:]
	le.PutUint32(header, 1) // PT_LOAD
	le.PutUint64(header[8:], off)
	le.PutUint64(header[24:], 0x1000000)
	le.PutUint64(header[32:], uint64(len(text)))
	le.PutUint64(header[40:], uint64(len(text)))
	return append(b, text...)
}

// BzImage returns a bzImage of boot protocol 2.15 that contains [Vmlinux] packed by gzip, names its
// version, and ends in its checksum. See the kernel's Documentation/arch/x86/boot.rst.
func BzImage(version string) []byte {
	var payload bytes.Buffer
	z := gzip.NewWriter(&payload)
	// Neither call fails: the underlying writer is memory.
	z.Write(Vmlinux(version))
	z.Close()

	le := binary.LittleEndian
	const setup, off = 3 * 512, 0x240
	kernel := (off + payload.Len() + 4 + 15) &^ 15
	b := make([]byte, setup+kernel)
	b[0x1f1] = setup/512 - 1
	le.PutUint32(b[0x1f4:], uint32(kernel/16))
	le.PutUint16(b[0x1fe:], 0xaa55)
	copy(b[0x200:], "\xeb\x6aHdrS")
	le.PutUint16(b[0x206:], 0x20f)
	le.PutUint16(b[0x20e:], 0x200) // kernel_version
	b[0x211] = 1                   // LOADED_HIGH
	le.PutUint32(b[0x22c:], 0x7fffffff)
	le.PutUint32(b[0x230:], 2<<20)
	le.PutUint16(b[0x236:], 0x7f)
	le.PutUint32(b[0x238:], 2047)
	le.PutUint32(b[0x248:], off)
	le.PutUint32(b[0x24c:], uint32(payload.Len()))
	le.PutUint64(b[0x258:], 0x1000000)
	le.PutUint32(b[0x260:], 8<<20)
	copy(b[0x400:], version+"\x00")
	copy(b[setup+off:], payload.Bytes())
	le.PutUint32(b[len(b)-4:], ^crc32.ChecksumIEEE(b[:len(b)-4]))
	return b
}

// Module returns an ELF file with a section .modinfo that contains these fields, "vermagic=6.12.3
// SMP" or "depends=a,b".
func Module(fields ...string) []byte {
	info := strings.Join(fields, "\x00") + "\x00"
	const names = "\x00.modinfo\x00.shstrtab\x00"
	le := binary.LittleEndian
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 1)  // ET_REL
	le.PutUint16(b[18:], 62) // EM_X86_64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[40:], uint64(64+len(info)+len(names)))
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[58:], 64)
	le.PutUint16(b[60:], 3)
	le.PutUint16(b[62:], 2)
	b = append(b, info+names...)
	section := func(name, kind uint32, off, size int) {
		h := make([]byte, 64)
		le.PutUint32(h, name)
		le.PutUint32(h[4:], kind)
		le.PutUint64(h[24:], uint64(off))
		le.PutUint64(h[32:], uint64(size))
		b = append(b, h...)
	}
	section(0, 0, 0, 0)
	section(1, 1, 64, len(info))
	section(10, 3, 64+len(info), len(names))
	return b
}
