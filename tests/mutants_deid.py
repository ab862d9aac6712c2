# ruff: noqa: E501
"""For each case of a demanding hospital, a line of the de-identification that breaks its rule, and the test that sees it.

A line: the case, the file, what is there, what it becomes, the test that must fail.
"""

_HEADER, _PIXELS = "tests/unit/test_deid_header.py::test_case_", "tests/unit/test_deid_pixels.py::test_case_"
_FILES, _LETTERS = "tests/unit/test_deid_files.py::test_case_", "tests/unit/test_deid_letters.py::test_case_"
_REGIONS, _REREAD = "tests/unit/test_deid_regions.py::test_case_", "tests/unit/test_deid_reread.py::test_case_"
_ROOM = "echoplane/deid/"


def _let_through(condition: str) -> tuple[str, str, str]:
    """Attributes that no rule names, copied where the condition holds."""
    old = "        if rule is None:\n"
    return (
        _ROOM + "header.py",
        old,
        f"        tag = item.tag\n        if rule is None and {condition}:\n            built[tag] = original[tag]\n{old}",
    )


def _refused_as(uid: str, name: str, found: str) -> tuple[str, str, str]:
    """A SOP class that policy refuses, handled like ultrasound."""
    row = f"{uid},{name},"
    return _ROOM + "data/sop_classes.csv", f"\n{row}{found}\n", f"\n{row}ultrasound\n"


DEID: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "deid 01",
        *_let_through("int(tag) >> 16 & 1 and not depth"),
        _HEADER + "01_private_tags_sequences_and_un_elements_are_removed",
    ),
    (
        "deid 02",
        *_let_through("int(tag) >> 16 & 1 and depth"),
        _HEADER + "02_a_private_tag_inside_a_public_sequence_is_removed",
    ),
    (
        "deid 03",
        _ROOM + "header.py",
        "items = [rebuild(item, context, depth + 1) for item in value]",
        "items = list(value)",
        _HEADER + "03_patient_name_inside_a_kept_sequence_is_removed",
    ),
    (
        "deid 04",
        _ROOM + "structure.py",
        "if len(levels) > depth and sum(level.items for level in levels) > max_depth:",
        "if False:",
        _HEADER + "04_deep_nesting_is_quarantined_and_the_next_file_is_done",
    ),
    (
        "deid 05",
        _ROOM + "key.py",
        'self._mac("uid", uid.encode())',
        'self._mac("uid", os.urandom(16))',
        _HEADER + "05_references_resolve_after_mapping",
    ),
    (
        "deid 06",
        _ROOM + "key.py",
        'self._mac("shift", _normal(patient_id))',
        'self._mac("shift", os.urandom(16))',
        _HEADER + "06_a_patient_has_one_pseudonym_and_one_shift_for_each_key",
    ),
    (
        "deid 07",
        _ROOM + "header.py",
        "if (_listed(token, context) or _is_short_number(token, context)) and not",
        "if not",
        _HEADER + "07_descriptions_keep_listed_words_alone",
    ),
    (
        "deid 08",
        _ROOM + "data/allowed.csv",
        "tag,keyword,vr,classes,why\n",
        "tag,keyword,vr,classes,why\n00104000,PatientComments,LT,all,planted\n",
        _HEADER + "08_free_text_is_removed",
    ),
    (
        "deid 09",
        _ROOM + "values.py",
        "len(token) > 2 and token in self.names",
        "False",
        _HEADER + "09_a_patient_named_like_a_listed_word_keeps_her_codes_and_loses_the_word",
    ),
    (
        "deid 10",
        _ROOM + "outcome.py",
        '"reason": self.reason,',
        '"reason": f"{self.reason} {self.source}",',
        _FILES + "10_no_identifier_reaches_names_reports_or_messages",
    ),
    (
        "deid 11",
        _ROOM + "instance.py",
        'built.preamble = b"\\0" * 128',
        'built.preamble = b"II" * 64',
        _HEADER + "11_preamble_and_file_meta_are_rebuilt",
    ),
    ("deid 12", *_let_through("int(tag) >> 24 in (0x50, 0x60)"), _HEADER + "12_overlays_curves_and_audio_are_removed"),
    (
        "deid 13",
        *_let_through("int(tag) == 0x00880200"),
        _HEADER + "13_and_25_icons_original_attributes_and_signatures_are_removed[IconImageSequence]",
    ),
    (
        "deid 14",
        _ROOM + "search.py",
        "    more |= _letters(",
        "    _letters(",
        _LETTERS + "14_text_that_moves_over_the_scan_is_masked",
    ),
    (
        "deid 15",
        _ROOM + "pixels.py",
        "[masker.rewrite(frame) for frame in self.frames]",
        "[masker.rewrite(frame) for frame in self.frames[:-1]] + self.frames[-1:]",
        _PIXELS + "15_every_frame_is_masked_also_the_last",
    ),
    (
        "deid 15",
        _ROOM + "energy.py",
        "most_HW = ordered[0], ordered[-2:][0], energy_THW.max(axis=0)",
        "most_HW = ordered[0], ordered[-2:][0], ordered[0]",
        _LETTERS + "15_text_over_the_scan_in_the_last_frame_alone_is_masked",
    ),
    (
        "deid 16",
        _ROOM + "regions.py",
        "_MAX_AREA_FRACTION = 0.9",
        "_MAX_AREA_FRACTION = 1.1",
        _REGIONS + "16_of_a_region_that_cannot_be_right_nothing_is_believed[regions4-region-covers-image]",
    ),
    (
        "deid 16",
        _ROOM + "fan.py",
        "_largest(np.ptp(eighth_THW, axis=0) > _MOVING_LEVELS)",
        "np.ones(eighth_THW.shape[1:], bool)",
        _REGIONS + "16_a_region_that_cannot_be_right_is_held_where_nothing_moves[regions0-region-missing]",
    ),
    (
        "deid device",
        _ROOM + "data/devices.csv",
        "SSD-4000,480,640,24,32,416,640",
        "SSD-4000,480,640,0,0,480,640",
        "tests/unit/test_deid_regions.py::test_a_listed_device_leaves_out_a_border",
    ),
    (
        "deid 17",
        _ROOM + "instance.py",
        '    if kind == "ultrasound":\n',
        '    if original.get("BurnedInAnnotation") == "NO":\n        return None\n    if kind == "ultrasound":\n',
        _PIXELS + "17_burned_in_annotation_no_is_not_believed",
    ),
    (
        "deid 18",
        _ROOM + "jpeg.py",
        "        if own_colour or not (",
        "        if True or not (",
        _PIXELS + "18_comments_application_segments_and_trailing_bytes_are_gone",
    ),
    (
        "deid 19",
        _ROOM + "pixels.py",
        'value + b"\\0" * (len(value) % 2)',
        "value + dataset.PixelData[len(value) :]",
        _PIXELS + "19_bytes_beyond_the_expected_pixel_data_are_trimmed",
    ),
    (
        "deid 20",
        *_refused_as("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF Storage", "encapsulated-document"),
        _FILES + "20_and_37_documents_reports_and_directories_are_refused",
    ),
    (
        "deid 21",
        _ROOM + "instance.py",
        '_CHARACTER_SET = "ISO_IR 192"',
        '_CHARACTER_SET = "ISO_IR 100"',
        _HEADER + "21_names_of_any_character_set_are_removed",
    ),
    (
        "deid 22",
        _ROOM + "dates.py",
        "timedelta(days=days)",
        "timedelta(days=0)",
        _HEADER + "22_date_times_are_shifted_or_removed",
    ),
    (
        "deid 23",
        _ROOM + "dates.py",
        "if years >= 90",
        "if years >= 120",
        _HEADER + "23_ages_over_89_are_capped_and_the_birth_date_is_emptied",
    ),
    (
        "deid 24",
        *_let_through("int(tag) in (0x00184000, 0x0018FFEE)"),
        _HEADER + "24_retired_and_unknown_tags_are_removed",
    ),
    (
        "deid 25",
        *_let_through("int(tag) == 0x04000561"),
        _HEADER + "13_and_25_icons_original_attributes_and_signatures_are_removed[OriginalAttributesSequence]",
    ),
    (
        "deid 26",
        _ROOM + "structure.py",
        '        if position + 8 > len(data):\n            raise Held("truncated")\n        item',
        "        if position + 8 > len(data):\n            return len(data)\n        item",
        _FILES + "26_a_truncated_file_is_quarantined",
    ),
    (
        "deid 27",
        _ROOM + "files.py",
        "    if outcome.status == QUARANTINED:\n",
        "    if True:\n",
        _FILES + "27_what_is_not_dicom_is_refused_and_not_copied",
    ),
    (
        "deid 28",
        _ROOM + "pixels.py",
        "if (syntax in NATIVE) == element.is_undefined_length:",
        "if False:",
        _FILES + "28_a_wrong_transfer_syntax_is_quarantined",
    ),
    (
        "deid 29",
        _ROOM + "pixels.py",
        "if len(frames) != count or not all(frames):",
        "if not all(frames):",
        _PIXELS + "29_a_wrong_number_of_frames_is_quarantined",
    ),
    (
        "deid 30",
        _ROOM + "instance.py",
        "if syntax in _VIDEO or syntax.startswith(_VIDEO_PREFIXES):",
        "if syntax in _VIDEO:",
        _PIXELS + "30_video_is_refused",
    ),
    (
        "deid 31",
        _ROOM + "structure.py",
        "stream.decompress(data[meta.start :], cap)",
        "stream.decompress(data[meta.start :])",
        _PIXELS + "31_a_deflate_bomb_stops_at_the_cap",
    ),
    (
        "deid 32",
        _ROOM + "pixels.py",
        "if found.frame_bytes * found.frames > policy.max_pixels_mib << 20:",
        "if False:",
        _PIXELS + "32_decoded_size_is_capped_before_decoding",
    ),
    (
        "deid 33",
        _ROOM + "instance.py",
        "is_little_endian=True)",
        "is_little_endian=False)",
        _HEADER + "33_every_encoding_gives_the_same_result",
    ),
    (
        "deid 34",
        _ROOM + "files.py",
        'raise Held("conflict") from None',
        "pass",
        _FILES + "34_the_same_uid_with_other_bytes_is_a_conflict",
    ),
    (
        "deid 35",
        _ROOM + "header.py",
        'return dates.shift_datetime(value, days) if vr == "DT"',
        'return value if vr == "DT"',
        _HEADER + "35_dates_in_functional_groups_are_shifted",
    ),
    (
        "deid 36",
        _ROOM + "header.py",
        '"(private)" if tag >> 16 & 1',
        '"(unknown)" if tag >> 16 & 1',
        _HEADER + "36_private_3d_data_are_dropped_and_the_loss_is_counted",
    ),
    (
        "deid 37",
        *_refused_as("1.2.840.10008.1.3.10", "Media Storage Directory Storage", "dicomdir"),
        _FILES + "20_and_37_documents_reports_and_directories_are_refused",
    ),
    (
        "deid 38",
        _ROOM + "stored.py",
        'return low + (1 << shape.bits_stored) - 1 if shape.photometric == "MONOCHROME1" else low',
        "return low",
        _PIXELS + "38_the_border_is_true_black_and_the_scan_is_unchanged",
    ),
    (
        "deid 39",
        _ROOM + "jpeg.py",
        "blocks.reshape(-1, 64)[chosen] = black",
        "blocks.reshape(-1, 64)[:] = black",
        _PIXELS + "39_jpeg_stays_jpeg_and_coefficients_outside_the_mask_are_identical",
    ),
    (
        "deid 40",
        _ROOM + "files.py",
        'if hashlib.sha256(output.read_bytes()).hexdigest() != record["outcome"]["output_digest"]:',
        "if False:",
        _FILES + "40_a_damaged_output_is_made_again",
    ),
    (
        "deid 41",
        _ROOM + "files.py",
        "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK",
        "os.O_RDONLY | os.O_NONBLOCK",
        _FILES + "41_links_and_special_files_are_refused",
    ),
    (
        "deid 42",
        *_refused_as("1.2.840.10008.5.1.4.1.1.7", "Secondary Capture Image Storage", "secondary-capture"),
        _PIXELS + "42_a_secondary_capture_is_refused",
    ),
    (
        "deid 43",
        _ROOM + "bulk.py",
        "value = data[: channels * samples * sample_bytes]",
        "value = data",
        _PIXELS + "43_ecg_annotations_are_removed_and_the_signal_is_kept",
    ),
    (
        "deid verify",
        _ROOM + "verify.py",
        "if not _ends_with_its_data(raw):",
        "if False:",
        "tests/unit/test_deid_files.py::test_verification_catches_an_identifier_in_raw_bytes",
    ),
    (
        "deid verify",
        _ROOM + "reread.py",
        "if np.any(eighth_HWC[self._masked] != (255 if self._inverted else 0)):",
        "if False:",
        "tests/unit/test_deid_files.py::test_verification_catches_a_mask_that_fails",
    ),
    (
        "deid verify",
        _ROOM + "reread.py",
        "if np.any(eighth_HWC[self._masked] !=",
        "if np.any(cv2.cvtColor(eighth_HWC, cv2.COLOR_RGB2YUV)[self._masked, 0] > 80) and np.any(eighth_HWC[self._masked] !=",
        "tests/unit/test_deid_reread.py::test_colour_left_outside_the_mask_is_held",
    ),
    (
        "deid 14",
        _ROOM + "reread.py",
        "search.letters_of(found, sample_THW, mask) | _lit_beside(",
        "_lit_beside(",
        _REREAD + "14_what_no_mask_takes_away_is_held[jpeg-name]",
    ),
    (
        "deid 14",
        _ROOM + "reread.py",
        " | _lit_beside(found, eighth_THW)",
        "",
        _REREAD + "14_what_the_first_search_missed_is_masked_on_the_second_look[native-bar]",
    ),
    (
        "deid 14",
        _ROOM + "files.py",
        "            if more is None:\n",
        "            if True:\n",
        _REREAD + "14_what_no_mask_takes_away_is_held[native-name]",
    ),
    (
        "deid 14",
        _ROOM + "letters.py",
        "    for _ in range(1 + _WIDER):",
        "    for _ in range(1):",
        _LETTERS + "14_a_word_that_is_found_in_part_is_followed_to_its_end",
    ),
    (
        "deid 14",
        _ROOM + "letters.py",
        "    if height >= _TALL and height > 2 * width:",
        "    if False:",
        _LETTERS + "14_a_name_that_stands_upright_is_masked_in_small_letters[3]",
    ),
    (
        "deid 15",
        _ROOM + "search.py",
        "    more |= letters.stand_at(",
        "    letters.stand_at(",
        _LETTERS + "15_text_at_the_rim_of_the_fan_in_one_frame_is_masked",
    ),
    (
        "deid option",
        _ROOM + "values.py",
        'text.vr != "TM" and text.tag not in retained and',
        'text.vr != "TM" and',
        "tests/unit/test_deid_rules.py::test_the_institution_stays_by_its_option_alone_and_never_with_her_name",
    ),
    (
        "deid option",
        _ROOM + "header.py",
        "if not (context.policy.safe_private and _copy_private(",
        "if not (_copy_private(",
        "tests/unit/test_deid_rules.py::test_a_listed_private_number_stays_by_its_option_alone",
    ),
    (
        "deid option",
        _ROOM + "rules.py",
        'row.full_dates == "K"',
        "True",
        "tests/unit/test_deid_rules.py::test_full_dates_stay_by_their_option_alone_and_the_birth_date_never",
    ),
    (
        "deid MR",
        _ROOM + "pixels.py",
        "if not accepted and search.letters_anywhere(frames):",
        "if False:",
        "tests/unit/test_deid_pixels.py::test_letters_in_an_mr_image_are_held_until_a_person_accepts",
    ),
    (
        "deid numbers",
        _ROOM + "header.py",
        "(rule.most is None or len(value) <= rule.most * size)",
        "True",
        "tests/unit/test_deid_rules.py::test_a_number_of_the_allow_list_stays_and_more_than_its_multiplicity_goes",
    ),
)
