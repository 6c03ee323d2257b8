//go:build tools

// Names the program that `make acceptance` builds, so that go.mod and go.sum pin all of it.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
