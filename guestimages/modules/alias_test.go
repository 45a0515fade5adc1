package modules

import (
	"slices"
	"testing"
)

func TestAliasesAreThoseOfTheWantedModules(t *testing.T) {
	const text = `# Aliases extracted from modules themselves.
alias virtio:d00000008v* virtio_scsi
alias scsi:t-0x00* sd_mod
alias fs-ext4 ext4
alias crypto-crc32c crc32c_intel
alias crypto-crc32c-intel crc32c_intel
broken line
`
	got := aliasesIn(text, []string{"virtio-scsi", "crc32c_intel", "overlay"})
	if want := []string{"virtio:d00000008v*"}; !slices.Equal(got["virtio_scsi"], want) {
		t.Errorf("virtio_scsi: got %q, want %q", got["virtio_scsi"], want)
	}
	if want := []string{"crypto-crc32c", "crypto-crc32c-intel"}; !slices.Equal(got["crc32c_intel"], want) {
		t.Errorf("crc32c_intel: got %q, want %q", got["crc32c_intel"], want)
	}
	if len(got["overlay"]) != 0 || len(got["sd_mod"]) != 0 {
		t.Errorf("got %q", got)
	}
}
