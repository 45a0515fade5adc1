package config

import (
	"bytes"
	"fmt"

	"github.com/BurntSushi/toml"
)

// TOML is the configuration as a file that resolves to the same configuration, with every default written out.
func (c *Config) TOML() []byte {
	var b bytes.Buffer
	enc := toml.NewEncoder(&b)
	enc.Indent = ""
	if err := enc.Encode(c); err != nil {
		panic(fmt.Sprintf("config: a Config that cannot be written: %v", err))
	}
	return b.Bytes()
}
