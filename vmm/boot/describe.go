package boot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"

	"minivmm/internal/unpack"
)

// signature identifies a file format by its magic bytes and their offset in the file.
type signature struct {
	off   int
	magic string
	what  string
}

// describeHead is the number of leading bytes that describe examines.
const describeHead = 0x8006

var signatures = []signature{
	{0x38, "ARM\x64", "an arm64 Linux Image"},
	{0x38, "RSC\x05", "a RISC-V Linux Image"},
	{4, "zimg", "an EFI zboot image (compressed arm64, RISC-V or LoongArch kernel)"},
	{0, "\x27\x05\x19\x56", "a U-Boot uImage"},
	{0, "\x5d\x00\x00", "lzma data"},
	{0, "\x89LZO", "lzo data"},
	{0, "070701", "a cpio archive (an initrd?)"},
	{0, "070702", "a cpio archive (an initrd?)"},
	{257, "ustar", "a tar archive"},
	{0, "QFI\xfb", "a qcow2 disk image"},
	{0x8001, "CD001", "an ISO 9660 image"},
	{0x438, "\x53\xef", "an ext2/3/4 file system"},
	{0, "hsqs", "a squashfs file system"},
	{0, "!<arch>", "an ar archive (a .deb package?)"},
	{0, "\xed\xab\xee\xdb", "an rpm package"},
	{0, "#!", "a script"},
	{0, "MZ", "a PE (EFI or Windows) program"},
	{510, "\x55\xaa", "a disk image with a boot sector"},
}

// describe returns a short description of a file that is not the expected kernel, based on its
// first describeHead bytes.
func describe(head []byte) string {
	if len(head) == 0 {
		return "an empty file"
	}
	if isELF(head) {
		return describeELF(head)
	}
	if isBzImage(head) {
		return "a bzImage"
	}
	if c := unpack.Format(head); c != "" {
		return c + " data"
	}
	for _, s := range signatures {
		if len(head) >= s.off && bytes.HasPrefix(head[s.off:], []byte(s.magic)) {
			return s.what
		}
	}
	for _, c := range head[:min(len(head), 512)] {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' || c >= 0x7f {
			return fmt.Sprintf("unknown data that starts with % x", head[:min(len(head), 8)])
		}
	}
	return "a text file"
}

var (
	elfKinds = map[elf.Type]string{
		elf.ET_REL: "object file", elf.ET_EXEC: "executable", elf.ET_CORE: "core dump",
		elf.ET_DYN: "shared object or position-independent program",
	}
	elfMachines = map[elf.Machine]string{
		elf.EM_386: "i386", elf.EM_MIPS: "MIPS", elf.EM_PPC: "PowerPC", elf.EM_PPC64: "PowerPC", elf.EM_S390: "s390",
		elf.EM_ARM: "arm", elf.EM_X86_64: "x86-64", elf.EM_AARCH64: "aarch64", elf.EM_RISCV: "RISC-V",
		elf.EM_LOONGARCH: "LoongArch",
	}
)

// describeELF returns the class, type and machine of an ELF file.
func describeELF(head []byte) string {
	if len(head) < 20 {
		return "a truncated ELF file"
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		order = binary.BigEndian
	}
	kind, known := elfKinds[elf.Type(order.Uint16(head[16:]))]
	if !known {
		kind = "file"
	}
	number := order.Uint16(head[18:])
	machine, known := elfMachines[elf.Machine(number)]
	if !known {
		machine = fmt.Sprintf("machine %d", number)
	}
	bits := "64-bit"
	if head[elf.EI_CLASS] != byte(elf.ELFCLASS64) {
		bits = "32-bit"
	}
	return fmt.Sprintf("a %s ELF %s for %s", bits, kind, machine)
}

// readHead reads up to n bytes from the start of r.
func readHead(r io.ReaderAt, n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := r.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return b[:got], nil
}
