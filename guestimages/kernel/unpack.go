package kernel

import (
	"bytes"
	"fmt"
	"io"
	"path"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// maxUnpacked bounds an unpacked module, in bytes; the largest in Debian is a tenth of it.
const maxUnpacked = 256 << 20

// unpack returns the ELF file in a module file, by the suffix that CONFIG_MODULE_COMPRESS_* gives it.
func unpack(file string, b []byte) ([]byte, error) {
	switch path.Ext(file) {
	case ".ko":
		return b, nil
	case ".xz":
		r, err := xz.NewReader(bytes.NewReader(b), 0)
		if err != nil {
			return nil, err
		}
		return readAll(r)
	case ".zst":
		r, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return readAll(r)
	}
	return nil, fmt.Errorf("%s is not a module's suffix: .ko, .ko.xz or .ko.zst", path.Ext(file))
}

func readAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	if err == nil && len(b) > maxUnpacked {
		return nil, fmt.Errorf("more than %d bytes", maxUnpacked)
	}
	return b, err
}
